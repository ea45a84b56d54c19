// Package fit is the training loop that the embedder and the trainer share: batches from a loader, steps of the
// training engine under a one-cycle learning rate, progress, a loss curve, and checkpoints from which a killed
// process goes on bit for bit.
package fit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/train"
)

// Config of a training.
type Config struct {
	Epochs int // passes over the ID pictures; required
	// Schedule of the learning rate; without a kind, one cycle with a quarter of the steps rising. Its peak is required.
	Schedule train.Schedule
	Seed     uint64 // of order and augmentation
	// Inliers, of the outliers' dataset, are put behind the ID pictures of every step as further labelled rows, so many,
	// with this weight; the trainer's batch counts them. 0: its pictures are outliers.
	Inliers      int
	InlierWeight float32
	Checkpoint   string           // file to go on from and to write; "" writes none
	Augment      dataset.Augment  // of all pictures; the zero value leaves them as they are
	Also         *dataset.Dataset // see dataset.LoaderConfig
	Crop         bool             // see dataset.LoaderConfig
	// Waiting is told after every step which share of the time so far went into waiting for pictures; may be nil.
	Waiting func(share float64)
	// Every is how often a checkpoint is written; default 10 s.
	Every time.Duration
	// Report is called after every step, from the goroutine that trains; may be nil.
	Report func(Progress)
}

func (c Config) validate() error {
	var errs []error
	if c.Epochs < 1 {
		errs = append(errs, fmt.Errorf("epochs: %d; want 1 or more", c.Epochs))
	}
	return errors.Join(append(errs, c.Schedule.Validate())...)
}

// Point is one point of a loss curve: means over the steps since the last point.
type Point struct {
	Step  int64   `json:"step"` // counted from 1
	Total float64 `json:"total"`
	CE    float64 `json:"ce"`
	OOD   float64 `json:"ood"`
	// Accuracy on the ID pictures of the steps, 0 to 1; pictures count by their number.
	Accuracy float64 `json:"accuracy"`
}

// points bounds the length of a loss curve.
const points = 200

// Run trains t on the ID pictures, and outliers when not nil, until the last epoch. It goes on from the checkpoint
// where there is one, and leaves one at the end, for [Remove] once the result is committed. A checkpoint belongs to one task: its path must be unique.
func Run(ctx context.Context, t *train.Trainer, id, outliers *dataset.Dataset, cfg Config) ([]Point, error) {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Schedule.Kind == "" {
		cfg.Schedule.Kind, cfg.Schedule.Warmup = "onecycle", 0.25
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	keep := checkpoint{path: cfg.Checkpoint}
	curve, err := keep.load(t)
	if err != nil {
		return nil, err
	}
	spec := t.Spec()
	loader, err := dataset.NewLoader(id, outliers, dataset.LoaderConfig{
		Batch: spec.Batch - cfg.Inliers, OutlierBatch: spec.Outliers + cfg.Inliers, Epochs: cfg.Epochs, FirstStep: int(t.Steps()),
		Seed: cfg.Seed, Augment: cfg.Augment, Also: cfg.Also, Crop: cfg.Crop,
	})
	if err != nil {
		return nil, err
	}
	if err := loader.Start(ctx); err != nil {
		return nil, err
	}
	defer loader.Close()

	total := int64(loader.Steps())
	stride := max(1, total/points)
	var sum mean
	speed := speedometer{pictures: spec.Batch + spec.Outliers}
	var waited, stepped time.Duration
	saved := time.Now()
	epoch := epochClock{ctx: ctx, size: int64(loader.StepsPerEpoch())}
	for {
		epoch.begin()
		asked := time.Now()
		batch, err := loader.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		rate := cfg.Schedule.Rate(batch.Step, int(total))
		began := time.Now()
		losses, err := t.Step(ctx, cfg.batch(batch, outliers), rate)
		if err != nil {
			return nil, err
		}
		waited, stepped = waited+began.Sub(asked), stepped+time.Since(asked)
		if cfg.Waiting != nil {
			cfg.Waiting(waited.Seconds() / stepped.Seconds())
		}
		epoch.stepped(t.Steps(), time.Since(began))
		sum.add(losses)
		if step := t.Steps(); step%stride == 0 || step == total {
			curve = append(curve, sum.point(step))
		}
		speed.stepped()
		if cfg.Report != nil {
			cfg.Report(Progress{Done: t.Steps(), Total: total, Last: pointOf(t.Steps(), losses), PerSecond: speed.perSecond(), Curve: curve})
		}
		// Only between points of the curve, so that its means never span a restart.
		if sum.n == 0 && time.Since(saved) > cfg.Every {
			if err := keep.save(t, curve); err != nil {
				return nil, err
			}
			saved = time.Now()
		}
	}
	if t.Steps() != total {
		return nil, fmt.Errorf("train: stopped at step %d of %d", t.Steps(), total)
	}
	return curve, keep.save(t, curve)
}

// batch puts the pictures of the second stream behind the ID pictures, as the training step wants them.
func (c Config) batch(b *dataset.Batch, second *dataset.Dataset) train.Batch {
	out := train.Batch{Images: b.Images}
	for _, y := range b.Labels {
		out.Labels = append(out.Labels, int(y))
	}
	if len(b.Outliers) > 0 {
		out.Images = append(append(make([]float32, 0, len(b.Images)+len(b.Outliers)), b.Images...), b.Outliers...)
	}
	if c.Inliers == 0 {
		return out
	}
	for range b.Labels {
		out.Weights = append(out.Weights, 1)
	}
	for _, i := range b.Outlier {
		out.Labels, out.Weights = append(out.Labels, int(second.Labels[i])), append(out.Weights, c.InlierWeight)
	}
	return out
}

// MeanStd is the mean and standard deviation per channel that the networks standardise pictures with.
func MeanStd(ds *dataset.Dataset) (mean, std [3]float32) {
	m, s := ds.MeanStd()
	for c := range 3 {
		mean[c], std[c] = float32(m[c]), float32(s[c])
	}
	return mean, std
}
