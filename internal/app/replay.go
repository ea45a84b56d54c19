package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	"github.com/dreamood/dreamood/services/generator"
)

// Replayer renders the pictures of records again in this process, without a server. The zero value but for Models or
// Model is usable; Close it.
type Replayer struct {
	Models   string // folder of diffusion models, by the names that records have
	Model    string // folder of the one to use in their place; "" = by name
	Provider string // see Config
	Threads  int    // see Config

	open map[string]*diffusion.Pipeline
}

// Close frees the models.
func (r *Replayer) Close() error {
	var errs []error
	for _, p := range r.open {
		errs = append(errs, p.Close())
	}
	r.open = nil
	return errors.Join(errs...)
}

// Render makes the pictures of records again, in their order. A record of another model than the one that is there is an
// error that names the parts which differ. Those of one rendering share batches.
func (r *Replayer) Render(ctx context.Context, records []*generatorv1.PictureRecord, yield func(*generatorv1.PictureRecord, []byte) error) error {
	for len(records) > 0 {
		model, err := r.model(records[0])
		if err != nil {
			return err
		}
		n := slices.IndexFunc(records, func(x *generatorv1.PictureRecord) bool {
			return !proto.Equal(x.Rendering, records[0].Rendering) || x.ModelDigest != records[0].ModelDigest
		})
		if n < 0 {
			n = len(records)
		}
		n = min(n, model.Batch())
		pictures, err := generator.Replay(ctx, model, records[:n])
		if err != nil {
			return err
		}
		for i, p := range pictures {
			if err := yield(records[i], p.PNG); err != nil {
				return err
			}
		}
		records = records[n:]
	}
	return nil
}

// model opens the model of a record.
func (r *Replayer) model(record *generatorv1.PictureRecord) (*diffusion.Pipeline, error) {
	dir := r.Model
	if name := record.GetRendering().GetModel(); dir == "" {
		if !ood.ValidID(name) {
			return nil, fmt.Errorf("%s: %q is no name of a model", record.File, name)
		}
		dir = filepath.Join(r.Models, name)
	}
	p := r.open[dir]
	if p == nil {
		if err := onnx.Open(""); err != nil {
			return nil, err
		}
		var err error
		if p, err = diffusion.Open(dir, diffusion.Config{ONNX: onnx.Config{Provider: r.Provider, Threads: r.Threads}}); err != nil {
			return nil, err
		}
		if r.open == nil {
			r.open = map[string]*diffusion.Pipeline{}
		}
		r.open[dir] = p
	}
	return p, sameModel(p, dir, record)
}

// sameModel compares a model with the one that a record names.
func sameModel(p *diffusion.Pipeline, dir string, record *generatorv1.PictureRecord) error {
	digest, err := p.Digest()
	if err != nil || digest == record.ModelDigest {
		return err
	}
	parts, err := p.PartDigests()
	if err != nil {
		return err
	}
	var other []string
	for part, sum := range record.ModelParts {
		if parts[part] != sum {
			other = append(other, part)
		}
	}
	slices.Sort(other)
	return fmt.Errorf("%s was rendered by another model than %s: sha256 %.12s, this one has %.12s; parts that differ: %q; name the model with --model",
		record.File, dir, record.ModelDigest, digest, other)
}
