package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/onnx"
)

// Scoring measures a detector without a server: an ONNX file in, scores out.
type Scoring struct {
	Name         string // of the detector, for results
	Model        []byte // ONNX, as the trainer exports it
	ID           string // path of labelled pictures, of the detector's classes
	OOD, Shifted []Pictures
	Score        string // that decides; "" is the detector's own
	Features     bool   // whether features are kept
	ONNX         onnx.Config
}

// Pictures are a dataset with the name and the group that it has in results.
type Pictures struct{ Name, Group, Path string }

// Run measures. report is told what is looked at.
func (s Scoring) Run(ctx context.Context, report func(string)) (*evaluation.Measured, evaluation.Summary, error) {
	var none evaluation.Summary
	m, err := infer.Open(s.Model, s.ONNX)
	if err != nil {
		return nil, none, fmt.Errorf("open the detector %s: %w; it wants the ONNX file of a detector (dreamood detector download)", s.Name, err)
	}
	defer m.Close()
	d, err := evaluation.DetectorOf(m, s.Name, s.Score)
	if err != nil {
		return nil, none, err
	}
	in, err := s.open(ctx, d, m.Size())
	if err != nil {
		return nil, none, err
	}
	measured, err := evaluation.Measure(ctx, m, d, in, report)
	if err != nil {
		return nil, none, err
	}
	report("computing figures")
	summary, err := measured.Summarise(ctx)
	return measured, summary, err
}

// open reads all pictures, and reports everything that is wrong with them.
func (s Scoring) open(ctx context.Context, d evaluation.Detector, size int) (evaluation.Input, error) {
	in := evaluation.Input{KeepFeatures: s.Features}
	opt := dataset.Options{Size: size}
	labelled := func(path string) (*dataset.Dataset, error) {
		ds, err := dataset.Open(ctx, path, opt)
		if err == nil && !slices.Equal(ds.Classes, d.Classes) {
			return nil, fmt.Errorf("%s has the classes %v, the detector was trained on %v; both must have the same folders", path, ds.Classes, d.Classes)
		}
		return ds, err
	}
	var errs []error
	var err error
	if in.ID, err = labelled(s.ID); err != nil {
		errs = append(errs, fmt.Errorf("ID pictures: %w", err))
	} else {
		in.ID.Name = filepath.Base(s.ID)
	}
	seen := map[string]bool{}
	for _, list := range []struct {
		what  string
		named []Pictures
		into  *[]evaluation.Named
		read  func(string) (*dataset.Dataset, error)
	}{
		{"OOD", s.OOD, &in.OOD, func(path string) (*dataset.Dataset, error) { return dataset.OpenUnlabelled(ctx, path, opt) }},
		{"shifted", s.Shifted, &in.Shifted, labelled},
	} {
		for _, p := range list.named {
			if seen[list.what+p.Name] {
				errs = append(errs, fmt.Errorf("%s set %s is there twice", list.what, p.Name))
			}
			seen[list.what+p.Name] = true
			ds, err := list.read(p.Path)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s set %s: %w", list.what, p.Name, err))
				continue
			}
			*list.into = append(*list.into, evaluation.Named{Name: p.Name, Group: p.Group, Data: ds})
		}
	}
	return in, errors.Join(errs...)
}
