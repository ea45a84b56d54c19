package diffusion

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// loops are the sessions that run many steps at once (Config.Loop): one for
// batches with guidance, one for those without. They are made when they are
// first needed. It is safe for concurrent use.
type loops struct {
	mu       sync.Mutex
	sessions map[bool]*onnx.Session // by guided
}

// loopSteps is how many steps are one run: progress is told in between.
const loopSteps = 10

// inLoop says whether a batch can be denoised in a loop, and by what schedule.
// Check-points are of single steps: work that goes on from one does not, nor
// does work that begins in the middle or whose latents somebody watches.
func (p *Pipeline) inLoop(items []Item, guided []int, plan Scheduler, opts Options) (linear, bool) {
	if !p.looped || len(items) < p.batch || opts.From != nil || opts.Strength > 0 || opts.Latents != nil || len(guided) != 0 && len(guided) != len(items) {
		return linear{}, false
	}
	return linearOf(plan)
}

func (l *loops) session(u *unet, guided bool) (*onnx.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sessions[guided]; s != nil {
		return s, nil
	}
	model, err := readModel(u.path)
	if err == nil {
		rewrites := u.rewrites
		rewrites.half = false // the timestep is no input of the whole graph
		err = rewrites.apply(model)
	}
	if err == nil {
		model, err = loopGraph(model, u, guided)
	}
	var data []byte
	if err == nil {
		data, err = onnxpb.Marshal(model)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, in a loop: %w", u.path, err)
	}
	cfg := u.onnx
	cfg.ExternalData = filepath.Dir(u.path)
	s, err := onnx.NewSession(data, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s, in a loop: %w", u.path, err)
	}
	if l.sessions == nil {
		l.sessions = map[bool]*onnx.Session{}
	}
	l.sessions[guided] = s
	return s, nil
}

func (l *loops) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.sessions {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// denoiseInLoop leads the latents of items, [B, C, h, w], in place through all
// steps, some at a time. states are the text embeddings, [R, L, H]; R is 2B
// with guidance. It tells progress and previews as denoise does, in coarser
// steps, and takes no check-points.
func (p *Pipeline) denoiseInLoop(ctx context.Context, items []Item, latents, states []float32, l linear, plan Scheduler, opts Options, progress func()) (calls unetCalls, err error) {
	u, b := p.unet, int64(len(items))
	guided := int64(len(states)) > b*u.states[0]*u.states[1]
	session, err := p.loops.session(u, guided)
	if err != nil {
		return calls, err
	}
	m := newLoopMemory(u, items, states, l, guided, opts)
	defer m.close()
	if m.err != nil {
		return calls, m.err
	}
	total := len(l.timesteps)
	every := loopSteps
	if opts.Preview != nil && opts.PreviewEvery > 0 {
		every = opts.PreviewEvery
	}
	for done := 0; done < total; {
		n := min(every, total-done)
		began := time.Now()
		if err := m.run(ctx, session, latents, done, n); err != nil {
			return calls, fmt.Errorf("%s, steps %d to %d in a loop: %w", u.path, done, done+n, err)
		}
		done += n
		calls.count, calls.busy = calls.count+int64(n), calls.busy+time.Since(began)
		for range n {
			progress()
		}
		if opts.previews(done, total) {
			clean, size := make([]float32, len(latents)), len(latents)
			sample, output := m.history[:size], m.history[size:2*size]
			plan.Clean(done-1, output, sample, clean)
			if err := p.preview(ctx, opts, done, total, clean); err != nil {
				return calls, err
			}
		}
	}
	return calls, nil
}

// loopMemory is what a loop graph reads and writes.
type loopMemory struct {
	in, out map[string]*onnx.Tensor
	sample  []float32 // [B, C, h, w]
	history []float32 // [2·lags, B, C, h, w]
	results [2][]float32
	err     error
}

func newLoopMemory(u *unet, items []Item, states []float32, l linear, guided bool, opts Options) *loopMemory {
	b, c, h, w := int64(len(items)), int64(u.channels), int64(u.height), int64(u.width)
	kept := int64(2 * l.lags)
	m := &loopMemory{in: map[string]*onnx.Tensor{}, out: map[string]*onnx.Tensor{}}
	keep := func(to map[string]*onnx.Tensor, name string, values []float32, shape ...int64) []float32 {
		t, err := onnx.NewFloat32(values, shape...)
		m.err = errors.Join(m.err, err)
		to[name] = t
		return values
	}
	size := b * c * h * w
	m.sample = keep(m.in, loopLatents, make([]float32, size), b, c, h, w)
	m.history = keep(m.in, loopHistory, make([]float32, kept*size), kept, b, c, h, w)
	m.results[0] = keep(m.out, loopLatentsTo, make([]float32, size), b, c, h, w)
	m.results[1] = keep(m.out, loopHistoryTo, make([]float32, kept*size), kept, b, c, h, w)
	n := int64(len(l.timesteps))
	keep(m.in, loopTimesteps, l.timesteps, n)
	keep(m.in, loopInput, l.input, n)
	keep(m.in, loopWeights, slices.Concat(l.weights...), n, kept+2)
	if guided {
		scales := make([]float32, b)
		for i, item := range items {
			scales[i] = float32(item.guidance(opts))
		}
		keep(m.in, loopGuidance, scales, b, 1, 1, 1)
	}
	hidden, err := onnx.FromFloats(u.hidden.DType, states, int64(len(states))/(u.states[0]*u.states[1]), u.states[0], u.states[1])
	m.err = errors.Join(m.err, err)
	m.in[u.hidden.Name] = hidden
	return m
}

// run moves the latents by n steps.
func (m *loopMemory) run(ctx context.Context, session *onnx.Session, latents []float32, first, n int) error {
	start, err1 := onnx.NewInt64([]int64{int64(first)})
	count, err2 := onnx.NewInt64([]int64{int64(n)})
	defer start.Close()
	defer count.Close()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	m.in[loopStart], m.in[loopCount] = start, count
	defer func() { delete(m.in, loopStart); delete(m.in, loopCount) }()
	copy(m.sample, latents)
	if err := session.RunInto(ctx, m.in, m.out); err != nil {
		return err
	}
	copy(latents, m.results[0])
	copy(m.history, m.results[1])
	return nil
}

func (m *loopMemory) close() {
	for _, tensors := range []map[string]*onnx.Tensor{m.in, m.out} {
		for _, t := range tensors {
			t.Close()
		}
	}
}
