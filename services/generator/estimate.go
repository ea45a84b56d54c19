package generator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/diffusion"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// Bounds of the trial that an estimate renders.
const (
	trialSteps = 4
	trialTime  = 20 * time.Second
	recordSize = 8 << 10 // about what a record takes in a shard, with the headers of two files, in bytes
)

// errTrialEnough ends a trial whose time is up.
var errTrialEnough = errors.New("the trial has taken long enough")

// pace is what a picture costs.
type pace struct {
	calls   int           // of the U-Net, in a rendering of the steps asked for
	picture time.Duration // of one worker
	bytes   int64         // of the PNG
	basis   string
}

// estimate checks a request as RenderSet does, and says what it costs. It renders a batch, with a few steps.
func (s *Service) estimate(ctx context.Context, q *generatorv1.RenderSetRequest) (*generatorv1.Estimate, error) {
	q = proto.CloneOf(q)
	q.ValidateOnly = false
	payload, err := protojson.Marshal(q)
	if err != nil {
		return nil, err
	}
	plan, err := s.plan(ctx, payload, "")
	if err != nil {
		return nil, err
	}
	var full generatorv1.RenderSetRequest
	if err := protojson.Unmarshal(plan.Payload, &full); err != nil {
		return nil, err
	}
	space, err := s.space(ctx, full.Space)
	if err != nil {
		return nil, err
	}
	decoding, err := decodingOf(full.Rendering, cmp.Or(space.Model, s.cfg.Model))
	if err != nil {
		return nil, err
	}
	p, err := s.pace(ctx, space, decoding)
	if err != nil {
		return nil, err
	}
	e := &generatorv1.Estimate{Pictures: plan.Total, MostRendered: plan.Total, Shards: int32(plan.Shards), PerPicture: durationpb.New(p.picture), Basis: p.basis}
	if full.Gate != nil {
		e.MostRendered *= int64(full.Gate.MaxAttempts)
	}
	e.UnetEvaluations = int64(p.calls) * plan.Total
	if decoding.Guidance > 1 {
		e.UnetEvaluations *= 2
	}
	e.Time = durationpb.New(time.Duration(plan.Total) * p.picture)
	if e.Bytes, err = s.bytesOf(ctx, space, decoding, &e.Basis); err != nil {
		return nil, err
	}
	if e.Bytes == 0 {
		e.Bytes = p.bytes + recordSize
	}
	e.Bytes *= plan.Total
	if s.deps.Free != nil {
		if free, ok := s.deps.Free(); ok {
			e.FreeBytes = &free
		}
	}
	return e, nil
}

// pace renders a batch of the space's words with a few steps and reckons what the steps asked for take.
func (s *Service) pace(ctx context.Context, space *embedderv1.Space, d Decoding) (p pace, err error) {
	model, err := s.model(ctx, space, d)
	if err != nil {
		return p, err
	}
	trial := d
	trial.Steps = min(d.Steps, trialSteps)
	work := make([]Work, model.Batch())
	for i := range work {
		c := i % len(space.Classes)
		work[i] = Work{Class: space.Classes[c].Name, Label: c, Index: i, Word: space.Classes[c].Word}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The first call of a model is slower than the others, and stands for nothing.
	var first, last time.Time
	done, total := 0, 0
	began := time.Now()
	pictures, err := decode(ctx, model, work, trial, diffusion.Options{Progress: func(step, of int) {
		last, done, total = time.Now(), step, of
		if step == 1 {
			first = last
		}
		if last.Sub(began) > trialTime && step >= 2 {
			cancel(errTrialEnough)
		}
	}})
	whole := time.Since(began)
	if err != nil && !errors.Is(context.Cause(ctx), errTrialEnough) {
		return p, err
	}
	call := whole / time.Duration(max(done, 1))
	if done >= 2 {
		call = last.Sub(first) / time.Duration(done-1)
	}
	p.calls = d.Steps + total - trial.Steps // some schedulers call more often than there are steps
	rest := max(0, whole-time.Duration(done)*call)
	n := len(work)
	p.picture = (time.Duration(p.calls)*call + rest) / time.Duration(n)
	p.basis = fmt.Sprintf("a batch of %d pictures with %d U-Net calls of %s each on this generator, %s for all else", n, done, call.Round(10*time.Microsecond), rest.Round(10*time.Microsecond))
	for _, r := range pictures {
		p.bytes += int64(len(r.PNG)) / int64(n)
	}
	if pictures == nil {
		height, width, err := model.PictureSize(ctx)
		if err != nil {
			return p, err
		}
		p.bytes = int64(3 * height * width) // PNG saves little on pictures of noise, and more on others
	}
	return p, nil
}

// bytesOf is what a picture with its record takes in a set that the same model has made, 0 where there is none.
func (s *Service) bytesOf(ctx context.Context, space *embedderv1.Space, d Decoding, basis *string) (int64, error) {
	model, err := s.model(ctx, space, d)
	if err != nil {
		return 0, err
	}
	digest, err := model.Digest()
	if err != nil {
		return 0, err
	}
	list, _, err := s.sets.Page(ctx, 1000, "")
	if err != nil {
		return 0, err
	}
	for _, set := range list {
		if set.ModelDigest != digest || set.Pictures == 0 {
			continue
		}
		var bytes int64
		for _, ref := range set.Shards {
			size, err := s.deps.Blobs.Stat(ctx, artifact.Ref(ref))
			if err != nil {
				bytes = 0
				break
			}
			bytes += size
		}
		if bytes > 0 {
			*basis += fmt.Sprintf("; bytes of %s", set.Name)
			return bytes / int64(set.Pictures), nil
		}
	}
	*basis += "; bytes of the pictures of that batch"
	return 0, nil
}
