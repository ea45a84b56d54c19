package app

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/npy"
)

// dumps are arrays beside the pictures. They appear together at the end.
type dumps struct {
	files  pendings
	arrays []*npy.Writer
	err    error // of latents
}

func (d *dumps) create(path string, shape ...int) (*npy.Writer, error) {
	p, err := newPending(path)
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, p)
	w, err := npy.NewWriter(p, shape...)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	d.arrays = append(d.arrays, w)
	return w, nil
}

// texts writes the text encoder's outputs.
func (d *dumps) texts(ctx context.Context, r *HandRendering) error {
	encoder := r.model.TextEncoder()
	for _, dump := range []struct {
		path   string
		prompt func(diffusion.Item) diffusion.Prompt
	}{
		{r.job.DumpText, func(i diffusion.Item) diffusion.Prompt {
			return diffusion.Prompt{Text: i.Prompt, Token: i.Token, Embedding: i.Embedding}
		}},
		{r.job.DumpNegative, func(i diffusion.Item) diffusion.Prompt { return diffusion.Prompt{Text: i.Negative} }},
	} {
		if dump.path == "" {
			continue
		}
		w, err := d.create(dump.path, len(r.work), encoder.Tokenizer().Length(), encoder.Width())
		if err != nil {
			return err
		}
		for _, item := range r.decoding.Items(r.work) {
			states, err := encoder.Encode(ctx, []diffusion.Prompt{dump.prompt(item)})
			if err == nil {
				err = w.Append(states)
			}
			if err != nil {
				return fmt.Errorf("write %s: %w", dump.path, err)
			}
		}
	}
	return nil
}

// latents returns what takes the latents of every step; nil where nobody wants them. Pictures of a batch come step by
// step, and are written one after another.
func (d *dumps) latents(r *HandRendering) (func(i, step int, values []float32), error) {
	if r.job.DumpLatents == "" {
		return nil, nil
	}
	steps, err := r.steps()
	if err != nil {
		return nil, err
	}
	shape := r.model.LatentShape()
	w, err := d.create(r.job.DumpLatents, len(r.work), steps+1, shape[0], shape[1], shape[2])
	if err != nil {
		return nil, err
	}
	under := map[int][]float32{} // pictures of the batch under way
	return func(i, step int, values []float32) {
		if under[i] = append(under[i], values...); step < steps {
			return
		}
		if err := w.Append(under[i]); err != nil && d.err == nil {
			d.err = fmt.Errorf("write %s: %w", r.job.DumpLatents, err)
		}
		delete(under, i)
	}, nil
}

// steps are the calls of the U-Net for a picture.
func (r *HandRendering) steps() (int, error) {
	d := r.decoding
	return r.model.Calls(diffusion.Options{Steps: d.Steps, Scheduler: d.Scheduler, Eta: d.Eta, Strength: d.Strength})
}

func (d *dumps) finish() error {
	if d.err != nil {
		return d.err
	}
	for _, a := range d.arrays {
		if err := a.Close(); err != nil {
			return err
		}
	}
	return d.files.appear()
}

// discard removes what did not appear.
func (d *dumps) discard() { d.files.discard() }
