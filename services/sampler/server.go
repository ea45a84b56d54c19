package sampler

import (
	"context"
	"errors"
	"math"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// SampleOutliers streams sampled embeddings as they are found, and a report at the end.
func (s *Service) SampleOutliers(q *samplerv1.SampleOutliersRequest, stream samplerv1.SamplerService_SampleOutliersServer) error {
	var checks fault.Checks
	checks.That(q.Count >= 1 && q.Count <= MaxCount, "count", "%d; want 1 to %d", q.Count, MaxCount)
	checks.That(q.Offset >= 0 && q.Offset <= math.MaxInt32-MaxCount, "offset", "%d; want 0 to %d", q.Offset, math.MaxInt32-MaxCount)
	if err := checks.Err(); err != nil {
		return err
	}
	ctx := stream.Context()
	w, err := s.prepare(ctx, q.Space, q.Class, q.Sampling)
	if err != nil {
		return err
	}
	info := w.class.info()
	norm := float32(matrix.Norm(info.Anchor))
	tally := NewTally(w.ready.sampler.Boundary(), int(q.Count), MaxCompared)
	r := Range{Class: uint32(w.class.label), Offset: int(q.Offset), Count: int(q.Count), Anchor: info.Anchor}
	err = w.ready.sampler.Sample(ctx, r, func(o Outlier) error {
		tally.Add(o)
		for i := range o.Embedding {
			o.Embedding[i] *= norm
		}
		return stream.Send(&samplerv1.SampleOutliersResponse{Outlier: outlierMessage(o, q.Class, info.Word)})
	})
	if err != nil || q.WithoutReport {
		return err
	}
	report, err := s.report(ctx, w, tally)
	if err != nil {
		return err
	}
	return stream.Send(&samplerv1.SampleOutliersResponse{Report: report})
}

// report describes what was sampled, and compares it with the ID embeddings of all classes.
func (s *Service) report(ctx context.Context, w work, tally *Tally) (*samplerv1.SamplingReport, error) {
	report := tally.Report()
	report.NoiseLevel = w.ready.noise
	kept := tally.Kept()
	nearest := NewNearest(kept)
	src, err := s.source(ctx, w.class.space)
	if err == nil {
		err = src.each(ctx, func(label int, bank matrix.Matrix) error { return nearest.Add(ctx, label, bank) })
	}
	switch {
	case err == nil:
		report.Foreign, report.Compared = nearest.Foreign(w.class.label, 0, kept.Rows), kept.Rows
	case !errors.Is(err, errTrainedAgain): // then there is nothing left to compare with
		return nil, err
	}
	return ReportMessage(w.class.info().Name, w.method.Name(), w.params, report), nil
}

// DescribeBoundary shows the border of a class.
func (s *Service) DescribeBoundary(ctx context.Context, q *samplerv1.DescribeBoundaryRequest) (*samplerv1.DescribeBoundaryResponse, error) {
	w, err := s.prepare(ctx, q.Space, q.Class, q.Sampling)
	if err != nil {
		return nil, err
	}
	b := w.ready.sampler.Boundary()
	out := &samplerv1.DescribeBoundaryResponse{Sampling: Message(w.method.Name(), w.params), IdQuantiles: Describe(b, nil).ID.list()}
	for i, row := range b.Selected {
		out.Points = append(out.Points, &samplerv1.BoundaryPoint{Row: int32(row), KthDistance: b.SelectedDistances[i]})
	}
	return out, nil
}

// ListMethods names the methods.
func (s *Service) ListMethods(context.Context, *samplerv1.ListMethodsRequest) (*samplerv1.ListMethodsResponse, error) {
	out := &samplerv1.ListMethodsResponse{}
	for _, m := range Methods() {
		out.Methods = append(out.Methods, &samplerv1.Method{Name: m.Name(), Description: m.Summary(), Defaults: Message(m.Name(), m.Defaults())})
	}
	return out, nil
}

// work is a request made ready.
type work struct {
	class  class
	method Method
	params Params
	ready  ready
}

// prepare finds the method, fits its defaults to the bank of the class, checks the settings and makes the sampler. Only
// a class that is not kept is streamed.
func (s *Service) prepare(ctx context.Context, space, name string, q *samplerv1.Sampling) (work, error) {
	method, err := Lookup(q.GetMethod())
	if err != nil {
		return work{}, fault.Invalid("sampling.method", "%w", err)
	}
	for attempt := 1; ; attempt++ {
		w := work{method: method}
		if w.class, err = s.describe(ctx, space, name); err != nil {
			return work{}, err
		}
		size, dim := int(w.class.info().Count), int(w.class.space.Dimension)
		w.params = ParamsOf(q, method.Defaults().FittedTo(size, dim))
		if err := Check(method, w.params, size, dim); err != nil {
			return work{}, err
		}
		k := key{w.class.space.Bank, w.class.space.Anchors, name, method.Name(), w.params}
		w.ready, err = s.prepared.get(k, func() (ready, error) { return s.make(ctx, w) })
		if !errors.Is(err, errTrainedAgain) || attempt == 3 {
			return w, Violations(err)
		}
	}
}

// make prepares a class.
func (s *Service) make(ctx context.Context, w work) (ready, error) {
	src, err := s.source(ctx, w.class.space)
	if err != nil {
		return ready{}, err
	}
	defer src.hold()
	bank, err := src.bank(ctx, w.class)
	if err != nil {
		return ready{}, err
	}
	in := Input{Bank: bank, Class: w.class.label, Anchors: w.class.anchors(), Banks: src.all}
	sampler, err := w.method.Prepare(ctx, in, w.params)
	if err != nil {
		return ready{}, err
	}
	noise, err := NoiseLevel(ctx, bank, sampler.Boundary().K)
	return ready{src.holding(sampler), noise}, err
}
