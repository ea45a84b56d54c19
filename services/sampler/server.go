package sampler

import (
	"context"
	"errors"
	"math"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// maxCount bounds the embeddings of one request.
const maxCount = 1_000_000

// SampleOutliers streams sampled embeddings as they are found.
func (s *Service) SampleOutliers(q *samplerv1.SampleOutliersRequest, stream samplerv1.SamplerService_SampleOutliersServer) error {
	var c fault.Checks
	c.That(q.Count >= 1 && q.Count <= maxCount, "count", "%d; want 1 to %d", q.Count, maxCount)
	c.That(q.Offset >= 0, "offset", "%d; want 0 or more", q.Offset)
	if err := c.Err(); err != nil {
		return err
	}
	ctx := stream.Context()
	sampler, _, b, err := s.prepare(ctx, q.Space, q.Class, q.Sampling)
	if err != nil {
		return err
	}
	norm := float32(matrix.Norm(b.anchor))
	r := Range{Class: uint32(b.label), Offset: int(q.Offset), Count: int(q.Count), Anchor: b.anchor}
	return sampler.Sample(ctx, r, func(o Outlier) error {
		for i := range o.Embedding {
			o.Embedding[i] *= norm
		}
		return stream.Send(&samplerv1.SampleOutliersResponse{Outlier: &samplerv1.Outlier{
			Class: q.Class, Index: int32(o.Index), Values: o.Embedding, KthDistance: o.KthDistance, AnchorCosine: o.CosineToAnchor,
			Source: int32(o.Source), Round: int32(o.Round), Noise: int32(o.NoiseIndex), Word: b.word,
		}})
	})
}

// DescribeBoundary shows the border of a class.
func (s *Service) DescribeBoundary(ctx context.Context, q *samplerv1.DescribeBoundaryRequest) (*samplerv1.DescribeBoundaryResponse, error) {
	sampler, settings, _, err := s.prepare(ctx, q.Space, q.Class, q.Sampling)
	if err != nil {
		return nil, err
	}
	b := sampler.Boundary()
	id := Describe(b, nil).ID
	out := &samplerv1.DescribeBoundaryResponse{
		Sampling: settings, IdQuantiles: []float32{
			float32(id.Min), float32(id.P05), float32(id.P25), float32(id.Median), float32(id.P75), float32(id.P95), float32(id.Max),
		},
	}
	for _, row := range b.Selected {
		out.Points = append(out.Points, &samplerv1.BoundaryPoint{Row: int32(row), KthDistance: b.KthDistances[row]})
	}
	return out, nil
}

// ListMethods names the methods.
func (s *Service) ListMethods(context.Context, *samplerv1.ListMethodsRequest) (*samplerv1.ListMethodsResponse, error) {
	out := &samplerv1.ListMethodsResponse{}
	for _, m := range Methods() {
		out.Methods = append(out.Methods, &samplerv1.Method{Name: m.Name(), Description: m.Summary(), Defaults: message(m.Name(), m.Defaults())})
	}
	return out, nil
}

// prepare finds the method, fits its defaults to the bank of the class, checks the settings and makes the sampler.
func (s *Service) prepare(ctx context.Context, space, class string, q *samplerv1.Sampling) (Sampler, *samplerv1.Sampling, bank, error) {
	method, err := Lookup(q.GetMethod())
	if err != nil {
		return nil, nil, bank{}, fault.Invalid("sampling.method", "%w", err)
	}
	b, err := s.fetch(ctx, space, class)
	if err != nil {
		return nil, nil, bank{}, err
	}
	params := settingsOf(q, method.Defaults().FittedTo(b.rows.Rows, b.rows.Cols))
	if err := params.Validate(b.rows.Rows, b.rows.Cols); err != nil {
		return nil, nil, bank{}, violations(err)
	}
	sampler, err := s.prepared.get(key{b.ref, class, method.Name(), params}, func() (Sampler, error) {
		return method.Prepare(ctx, Input{Bank: b.rows}, params)
	})
	return sampler, message(method.Name(), params), b, err
}

// settingsOf is d with everything that the request sets.
func settingsOf(q *samplerv1.Sampling, d Params) Params {
	set := func(v *int, q int32) {
		if q != 0 {
			*v = int(q)
		}
	}
	set(&d.K, q.GetK())
	set(&d.Select, q.GetSelect())
	d.Pick = min(d.Pick, max(d.Select, 1))
	set(&d.Pick, q.GetPick())
	set(&d.Noises, q.GetNoises())
	set(&d.Keep, q.GetKeep())
	if q.GetSigma() != 0 || math.IsNaN(q.GetSigma()) {
		d.Sigma = q.GetSigma()
	}
	d.Seed = q.GetSeed()
	if d.Seed == 0 {
		d.Seed = 1
	}
	return d
}

func message(method string, p Params) *samplerv1.Sampling {
	return &samplerv1.Sampling{
		Method: method, K: int32(p.K), Select: int32(p.Select), Pick: int32(p.Pick), Noises: int32(p.Noises), Sigma: p.Sigma,
		Keep: int32(p.Keep), Seed: p.Seed,
	}
}

// violations turns what Validate found into fields of the request.
func violations(err error) error {
	var ps Problems
	if !errors.As(err, &ps) {
		return fault.Invalid("sampling", "%w", err)
	}
	var c fault.Checks
	for _, p := range ps {
		c.Add("sampling."+p.Field, "%s", p.Message)
	}
	return c.Err()
}
