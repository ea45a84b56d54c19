package generator

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// evaluations of the U-Net for one picture: with guidance each call evaluates it twice.
func (d Decoding) evaluations() float64 {
	if d.Guidance > 1 {
		return 2 * float64(d.Steps)
	}
	return float64(d.Steps)
}

// chunk is about how many pictures of a call are sampled at once, so that the first one does not wait for the
// embeddings of all.
const chunk = 64

// live renders n pictures of a class from index first on and hands them to send in order, each as soon as its batch is
// decoded, with previews in between. Rendering runs ahead of a slow client by at most two batches, and then keeps
// nobody else from rendering; previews that would have to wait are left out.
func (j job) live(ctx context.Context, t *ticket, label, first, n int, watch previewing, send func(*generatorv1.RenderOutliersResponse) error) error {
	group, ctx := errgroup.WithContext(ctx)
	out := make(chan *generatorv1.RenderOutliersResponse, j.model.Batch())
	if watch.every > 0 {
		watch.yield = func(p *generatorv1.Preview) {
			select {
			case out <- &generatorv1.RenderOutliersResponse{Preview: p}:
			default:
			}
		}
		j.preview = &watch
	}
	j.turn = t.turn
	group.Go(func() error {
		defer close(out)
		given := j.given
		for size := j.model.Batch(); n > 0; size = max(1, chunk/j.model.Batch()) * j.model.Batch() {
			count := min(n, size)
			if given != nil {
				j.given, given = given[:count], given[count:]
			}
			err := j.each(ctx, []segment{{label: label, first: first, count: count}}, nil, nil, func(p *generatorv1.Picture) error {
				return t.hand(ctx, out, &generatorv1.RenderOutliersResponse{Picture: p})
			})
			if err != nil {
				return err
			}
			first, n = first+count, n-count
		}
		return nil
	})
	group.Go(func() error {
		for r := range out {
			if err := send(r); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// hand puts a picture where the client's are sent from, and waits as long as there is no room.
func (t *ticket) hand(ctx context.Context, out chan<- *generatorv1.RenderOutliersResponse, r *generatorv1.RenderOutliersResponse) error {
	select {
	case out <- r:
		return nil
	default:
	}
	t.park(true)
	defer t.park(false)
	select {
	case out <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// previewing is how a job shows what it is at.
type previewing struct {
	every  int
	method diffusion.PreviewMethod
	yield  func(*generatorv1.Preview)
}

var previewMethods = map[generatorv1.PreviewMethod]diffusion.PreviewMethod{
	generatorv1.PreviewMethod_PREVIEW_METHOD_UNSPECIFIED: diffusion.PreviewChosen,
	generatorv1.PreviewMethod_PREVIEW_METHOD_LINEAR:      diffusion.PreviewLinear,
	generatorv1.PreviewMethod_PREVIEW_METHOD_DECODER:     diffusion.PreviewDecoder,
}

func previewingOf(q *generatorv1.RenderOutliersRequest) (previewing, error) {
	method, known := previewMethods[q.PreviewMethod]
	var c fault.Checks
	c.That(q.PreviewEvery >= 0, "preview_every", "%d; want 0 (none) or more", q.PreviewEvery)
	c.That(known, "preview_method", "%d is none", q.PreviewMethod)
	return previewing{every: int(q.PreviewEvery), method: method}, c.Err()
}

// batch renders some work of the job, when it is its turn.
func (j job) batch(ctx context.Context, work []Work, opts diffusion.Options) (pictures []Rendered, err error) {
	if j.turn != nil {
		done, err := j.turn(ctx, len(work))
		if err != nil {
			return nil, err
		}
		defer func() { done(pictures != nil) }()
	}
	if j.preview == nil {
		return decode(ctx, j.model, work, j.decoding, opts)
	}
	var broken error
	opts.PreviewEvery, opts.PreviewMethod = j.preview.every, j.preview.method
	opts.Preview = func(v diffusion.Preview) {
		for i, picture := range v.Images {
			shown, err := encode(picture)
			broken = errors.Join(broken, err)
			of := work[v.First+i]
			j.preview.yield(&generatorv1.Preview{Png: shown.PNG, Class: of.Class, Index: int32(of.Index), Step: int32(v.Done), Steps: int32(v.Total)})
		}
	}
	pictures, err = decode(ctx, j.model, work, j.decoding, opts)
	return pictures, errors.Join(err, broken)
}
