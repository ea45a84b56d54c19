package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/stage"
	enginev1 "github.com/dreamood/dreamood/proto/dreamood/engine/v1"
)

// Pipeline is a model in the engine process. It outlives processes: the next one loads it again. It is safe for
// concurrent use.
type Pipeline struct {
	s     *Supervisor
	dir   string
	about about
}

// Open loads the model in a folder.
func (s *Supervisor) Open(dir string) (*Pipeline, error) {
	p := &Pipeline{s: s, dir: dir}
	err := p.with(context.Background(), func(_ context.Context, c *child) error { return nil })
	if err != nil {
		return nil, err
	}
	return p, nil
}

// with calls f with a process that has the model loaded.
func (p *Pipeline) with(ctx context.Context, f func(context.Context, *child) error) error {
	c, err := p.s.acquire(ctx)
	if err != nil {
		return err
	}
	defer p.s.release(c, 0)
	if err := p.load(c); err != nil {
		return err
	}
	return c.outcome(f(ctx, c))
}

// load has a process load the model, unless it has.
func (p *Pipeline) load(c *child) error {
	p.s.mu.Lock()
	loaded := c.models[p.dir]
	p.s.mu.Unlock()
	if loaded {
		return nil
	}
	cfg := p.s.cfg.Pipeline
	cfg.Noise = nil
	data, err := pack(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.s.cfg.LoadTimeout)
	defer cancel()
	r, err := c.client.Open(ctx, &enginev1.OpenRequest{Dir: p.dir, Config: data})
	if ctx.Err() != nil {
		c.kill(fmt.Sprintf("did not load %s within %s and was killed", p.dir, p.s.cfg.LoadTimeout))
	}
	if err := c.outcome(err); err != nil {
		return err
	}
	var a about
	if err := unpack(r.About, &a); err != nil {
		return err
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.about.Digest == "" {
		p.about = a
	}
	if a.Digest != p.about.Digest {
		return fault.New(fault.FailedPrecondition, "model %s is another one than when it was opened (sha256 %s, now %s); open it again", p.dir, p.about.Digest, a.Digest)
	}
	c.models[p.dir] = true
	return nil
}

// outcome is the error of a call: that of the process where it is gone, or goes.
func (c *child) outcome(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.Unavailable { // the connection ended; so does the process, or it is of no use
		select {
		case <-c.gone:
		case <-time.After(time.Second):
			c.kill("closed its connection and was killed")
			<-c.gone
		}
	}
	if !c.alive() {
		return &CrashError{Why: c.ended()}
	}
	return rpc.FromStatus(err)
}

// Width of a token embedding.
func (p *Pipeline) Width() int { return p.about.Width }

// Batch is the number of pictures that are rendered together.
func (p *Pipeline) Batch() int { return p.about.Batch }

// LatentShape is [C, h, w].
func (p *Pipeline) LatentShape() [3]int { return p.about.Latents }

// HasEncoder says whether pictures can be given.
func (p *Pipeline) HasEncoder() bool { return p.about.Encoder }

// PictureSize is in pixels.
func (p *Pipeline) PictureSize(context.Context) (height, width int, err error) {
	return p.about.Height, p.about.Wide, nil
}

// SchedulerName is the scheduler that Render uses for an Options.Scheduler.
func (p *Pipeline) SchedulerName(name string) string {
	if name == "" {
		return p.about.Scheduler
	}
	return name
}

// SchedulerOptions are those of diffusion.Pipeline.
func (p *Pipeline) SchedulerOptions() (options map[string]any, err error) {
	err = json.Unmarshal(p.about.Options, &options)
	return options, err
}

// Digest is that of the model's files when it was opened.
func (p *Pipeline) Digest() (string, error) { return p.about.Digest, nil }

// PartDigests are those of its parts.
func (p *Pipeline) PartDigests() (map[string]string, error) { return maps.Clone(p.about.Parts), nil }

// quick bounds calls that compute nothing.
const quick = time.Minute

// Tokens returns the ids of a prompt.
func (p *Pipeline) Tokens(prompt string) (ids []int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	err = p.with(ctx, func(ctx context.Context, c *child) error {
		r, err := c.client.Tokens(ctx, &enginev1.TokensRequest{Dir: p.dir, Prompt: prompt})
		ids = r.GetIds()
		return err
	})
	return ids, err
}

// Check reports what Render would refuse.
func (p *Pipeline) Check(items []diffusion.Item, opts diffusion.Options) error {
	data, err := pack(work{Dir: p.dir, Items: items, Options: opts})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	var problem string
	err = p.with(ctx, func(ctx context.Context, c *child) error {
		r, err := c.client.Check(ctx, &enginev1.CheckRequest{Work: data})
		problem = r.GetProblem()
		return err
	})
	if err == nil && problem != "" {
		err = errors.New(problem)
	}
	return err
}

// Close frees the model; with Config.Replace the process ends when it has no more work.
func (p *Pipeline) Close() error {
	p.s.mu.Lock()
	c := p.s.current
	loaded := c != nil && c.alive() && c.models[p.dir]
	if loaded {
		delete(c.models, p.dir)
		if p.s.cfg.Replace && c.retiring == "" {
			c.retiring = "a model was closed"
		}
		c.active++
	}
	p.s.mu.Unlock()
	if !loaded {
		return nil
	}
	defer p.s.release(c, 0)
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	_, err := c.client.Close(ctx, &enginev1.CloseRequest{Dir: p.dir})
	if err := c.outcome(err); err != nil && c.alive() {
		return err
	}
	return nil // with the process the model is gone too
}

// Render makes a picture of every item, as diffusion.Pipeline does: the same bytes. A *CrashError says that the process
// ended, and that trying again may help; work under which processes end again and again is FAILED_PRECONDITION.
func (p *Pipeline) Render(ctx context.Context, items []diffusion.Item, opts diffusion.Options) ([]diffusion.Image, error) {
	w := work{Dir: p.dir, Items: items, Options: opts, Preview: opts.Preview != nil, Save: opts.Save != nil, Parts: stage.Heard(ctx)}
	key, err := keyOf(w)
	if err != nil {
		return nil, err
	}
	data, err := pack(w)
	if err != nil {
		return nil, err
	}
	leave, err := p.s.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := p.s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	rendered := 0
	defer func() { p.s.release(c, rendered) }()
	if err := p.load(c); err != nil {
		return nil, err
	}
	images, err := c.render(ctx, p.s.cfg, data, opts)
	err = recognised(err)
	var crash *CrashError
	switch {
	case errors.As(err, &crash):
		if c.stopping { // by Close
			return nil, ErrClosed
		}
		crash.Times = p.s.accuse(key)
	case err == nil && len(images) != len(items):
		err = fmt.Errorf("the engine process gave %d pictures of %d", len(images), len(items))
	case err == nil:
		rendered = len(images)
		p.s.acquit(key)
	}
	return images, err
}

// keyOf tells work apart, wherever it goes on from.
func keyOf(w work) ([sha256.Size]byte, error) {
	w.Options.From = nil
	data, err := pack(w)
	return sha256.Sum256(data), err
}

// render sends work to the process and takes what comes. When ctx ends it waits until the native run has returned.
func (c *child) render(ctx context.Context, cfg Config, data []byte, opts diffusion.Options) ([]diffusion.Image, error) {
	c.begin()
	defer c.end()
	whole, cancel := context.WithCancel(context.Background()) // ctx asks the process to end the work first
	defer cancel()
	stream, err := c.client.Render(whole)
	if err == nil {
		err = stream.Send(&enginev1.RenderRequest{Work: data})
	}
	if err != nil && !errors.Is(err, io.EOF) { // Recv says why
		return nil, c.outcome(err)
	}
	ended := make(chan struct{})
	defer close(ended)
	defer context.AfterFunc(ctx, func() {
		_ = stream.CloseSend()
		select {
		case <-ended:
		case <-time.After(cfg.CancelWait):
			c.kill(fmt.Sprintf("did not return within %s of a cancel and was killed", cfg.CancelWait))
		}
	})()
	var images []diffusion.Image
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return images, nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, c.outcome(err)
		}
		c.touch()
		if err := take(ctx, r, opts, &images); err != nil {
			return nil, err
		}
	}
}

// take hands on what happened to work.
func take(ctx context.Context, r *enginev1.RenderResponse, opts diffusion.Options, images *[]diffusion.Image) error {
	if len(r.Event) == 0 {
		if opts.Progress != nil {
			opts.Progress(int(r.Done), int(r.Total))
		}
		return nil
	}
	var e event
	if err := unpack(r.Event, &e); err != nil {
		return fmt.Errorf("read what the engine process says: %w", err)
	}
	switch {
	case e.Preview != nil:
		opts.Preview(*e.Preview)
	case e.Checkpoint != nil:
		opts.Save(*e.Checkpoint)
	case e.Part != nil:
		stage.Tell(ctx, *e.Part)
	case e.Image != nil:
		*images = append(*images, *e.Image)
	}
	return nil
}
