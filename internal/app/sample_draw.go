package app

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/matrix"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	"github.com/dreamood/dreamood/services/sampler"
)

// input is what a class is prepared from, and the range that is sampled.
func (p *plan) input(ctx context.Context, in *inputs, i int) (sampler.Input, sampler.Range, error) {
	class := p.classes[i]
	bank, err := in.bank(class)
	if err != nil {
		return sampler.Input{}, sampler.Range{}, err
	}
	r := sampler.Range{Class: uint32(class), Count: p.count}
	if in.anchors.Rows > 0 {
		r.Anchor = in.anchors.Row(class)
	}
	return sampler.Input{Bank: bank, Class: class, Anchors: in.anchors, Banks: in.banks, Noise: in.noise}, r, nil
}

// drawn is a class whose samples are written.
type drawn struct {
	class  int
	params sampler.Params
	report sampler.Report
	kept   matrix.Matrix // some of the samples, of unit norm
}

// sample draws the samples of the i-th class wanted and writes them.
func (p *plan) sample(ctx context.Context, in *inputs, i int, out *outputs, show func(done int)) (drawn, error) {
	input, r, err := p.input(ctx, in, i)
	if err != nil {
		return drawn{}, err
	}
	s, err := p.method.Prepare(ctx, input, p.params[i])
	if err != nil {
		return drawn{}, sampler.Violations(err)
	}
	tally := sampler.NewTally(s.Boundary(), r.Count, p.kept())
	norm := 1.0
	if r.Anchor != nil {
		norm = matrix.Norm(r.Anchor)
	}
	err = s.Sample(ctx, r, func(o sampler.Outlier) error {
		tally.Add(o)
		if done := o.Index + 1; done%100 == 0 || done == r.Count {
			show(done)
		}
		return out.add(o, float32(norm))
	})
	if err != nil {
		return drawn{}, err
	}
	d := drawn{input.Class, p.params[i], tally.Report(), tally.Kept()}
	d.report.NoiseLevel, err = sampler.NoiseLevel(ctx, input.Bank, s.Boundary().K)
	return d, err
}

// kept is the number of samples of a class that are compared with all ID embeddings and drawn on the map.
func (p *plan) kept() int { return min(max(1<<14/len(p.classes), 64), sampler.MaxCompared) }

// report describes every class, and compares the samples with the ID embeddings of all classes in one pass over them.
func (p *plan) report(ctx context.Context, in *inputs, list []drawn) ([]*samplerv1.SamplingReport, error) {
	all := matrix.Matrix{Cols: in.dim}
	for _, d := range list {
		all.Data, all.Rows = append(all.Data, d.kept.Data...), all.Rows+d.kept.Rows
	}
	nearest := sampler.NewNearest(all)
	for class := range in.sizes {
		bank, err := in.bank(class)
		if err != nil {
			return nil, err
		}
		if err := nearest.Add(ctx, class, bank); err != nil {
			return nil, err
		}
	}
	reports := make([]*samplerv1.SamplingReport, len(list))
	from := 0
	for i, d := range list {
		r := d.report
		r.Compared = d.kept.Rows
		r.Foreign = nearest.Foreign(d.class, from, from+r.Compared)
		from += r.Compared
		reports[i] = sampler.ReportMessage(fmt.Sprint(d.class), p.method.Name(), d.params, r)
	}
	return reports, nil
}
