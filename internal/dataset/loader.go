package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// LoaderConfig says what a Loader prepares.
type LoaderConfig struct {
	Batch        int    // ID pictures per step; default 128
	OutlierBatch int    // outliers per step; default Batch; ignored without outliers
	Epochs       int    // over the ID pictures; 0 = without end
	FirstStep    int    // where to start, to resume a training
	Seed         uint64 // of the order and the augmentation
	Augment      Augment
	Also         *Dataset // the same outliers, resized by another filter: each time one of the two is drawn; may be nil
	Crop         bool     // outliers are larger than ID pictures; a random part of their size is taken, without padding
	Workers      int      // goroutines that prepare a batch; default GOMAXPROCS
	Ahead        int      // batches prepared ahead of use; default 2
}

func (c LoaderConfig) prepare(id, outliers *Dataset) (LoaderConfig, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("loader: "+format, args...)) }
	if c.Batch == 0 {
		c.Batch = 128
	}
	if c.OutlierBatch == 0 {
		c.OutlierBatch = c.Batch
	}
	if c.Ahead == 0 {
		c.Ahead = 2
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Batch < 0 || c.OutlierBatch < 0 || c.Epochs < 0 || c.FirstStep < 0 || c.Ahead < 0 || c.Workers < 0 {
		bad("batch, outlier batch, epochs, first step, ahead or workers is negative; want 0 (the default) or more")
	}
	if id == nil || id.Len() == 0 {
		bad("no ID pictures")
		return c, errors.Join(errs...)
	}
	if c.Batch > id.Len() {
		bad("a batch of %d from %d pictures; lower the batch or give more pictures", c.Batch, id.Len())
	}
	if err := c.Augment.Check(id.Size); err != nil {
		errs = append(errs, err)
	}
	switch {
	case outliers == nil:
		c.OutlierBatch = 0
	case outliers.Len() == 0:
		bad("the outlier set has no pictures")
	case c.Also != nil && (c.Also.Len() != outliers.Len() || c.Also.Size != outliers.Size):
		bad("the outliers by another filter are %d of %d pixels, want %d of %d", c.Also.Len(), c.Also.Size, outliers.Len(), outliers.Size)
	case c.Crop && outliers.Size < id.Size:
		bad("outliers of %d pixels are too small to be cropped to %d", outliers.Size, id.Size)
	case outliers.Size != id.Size && !c.Crop:
		bad("outliers of %d pixels beside pictures of %d; open both at one size", outliers.Size, id.Size)
	}
	return c, errors.Join(errs...)
}

// Loader prepares training batches ahead of their use, in one goroutine that
// runs from Start to Close. What the batches hold is a function of the
// datasets, the configuration and the step alone. Next and Close belong to one
// goroutine.
type Loader struct {
	config   LoaderConfig
	schedule schedule
	free     chan *Batch // to be filled
	ready    chan *Batch // to be used; closed at the end
	current  *Batch      // in use
	stopped  error       // why ready was closed: io.EOF, or the error of the context
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// NewLoader makes a loader over the ID pictures and, when outliers is not nil,
// over an outlier set beside them. It reports every mistake at once.
func NewLoader(id, outliers *Dataset, config LoaderConfig) (*Loader, error) {
	c, err := config.prepare(id, outliers)
	if err != nil {
		return nil, err
	}
	var fill [3]float32
	if c.Augment.Cutout > 0 {
		mean, _ := id.MeanStd()
		fill = [3]float32{float32(mean[0]), float32(mean[1]), float32(mean[2])}
	}
	l := &Loader{config: c, schedule: schedule{
		id:    newStream(id, c.Augment, c.Seed, "loader.id", fill),
		steps: id.Len() / c.Batch, workers: c.Workers,
	}}
	if outliers != nil {
		l.schedule.outliers = newStream(outliers, c.Augment, c.Seed, "loader.outlier", fill)
		l.schedule.outliers.also, l.schedule.outliers.size = c.Also, id.Size
	}
	l.free = make(chan *Batch, c.Ahead+1)
	l.ready = make(chan *Batch, c.Ahead)
	n := 3 * id.Size * id.Size
	for range cap(l.free) {
		l.free <- &Batch{
			Images: make([]float32, c.Batch*n), Labels: make([]int32, c.Batch), Indices: make([]int, c.Batch),
			Outliers: make([]float32, c.OutlierBatch*n), Outlier: make([]int, c.OutlierBatch),
		}
	}
	return l, nil
}

// StepsPerEpoch is the number of batches that one pass over the ID pictures
// gives: N / Batch, rounded down.
func (l *Loader) StepsPerEpoch() int { return l.schedule.steps }

// Steps is the number of the step after the last, or 0 for a loader without
// end.
func (l *Loader) Steps() int { return l.config.Epochs * l.schedule.steps }

// Start begins to prepare batches. It may be called once. The loader stops
// when the context is done, but only Close waits for that.
func (l *Loader) Start(ctx context.Context) error {
	if l.cancel != nil {
		return errors.New("loader: started twice; make a new one")
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.done.Go(func() { l.run(ctx) })
	return nil
}

func (l *Loader) run(ctx context.Context) {
	defer close(l.ready) // publishes stopped
	for step := l.config.FirstStep; l.config.Epochs == 0 || step < l.Steps(); step++ {
		if l.stopped = ctx.Err(); l.stopped != nil { // select takes any ready case, so it may pass over Done again and again
			return
		}
		var b *Batch
		select {
		case b = <-l.free:
		case <-ctx.Done():
			l.stopped = ctx.Err()
			return
		}
		l.schedule.fill(b, step)
		select {
		case l.ready <- b:
		case <-ctx.Done():
			l.stopped = ctx.Err()
			return
		}
	}
	l.stopped = io.EOF
}

// Next returns the next batch, io.EOF after the last, or the error of a context
// that is done. The batch before it must no longer be used.
func (l *Loader) Next(ctx context.Context) (*Batch, error) {
	if l.cancel == nil {
		return nil, errors.New("loader: not started; call Start first")
	}
	if l.current != nil {
		l.free <- l.current // has room for all batches
		l.current = nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case b, ok := <-l.ready:
		if !ok {
			return nil, l.stopped
		}
		l.current = b
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close stops the goroutine and waits for its end. It may be called at any
// time, also before Start and more than once.
func (l *Loader) Close() {
	if l.cancel != nil {
		l.cancel()
		l.done.Wait()
	}
}
