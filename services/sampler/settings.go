package sampler

import (
	"errors"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/fault"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// MaxCount bounds the embeddings of one class that are asked for at once.
const MaxCount = 1_000_000

// ParamsOf is d with everything that a request sets; what the request leaves at zero stays, and so do the steps beyond
// the flip where they are not set at all. A seed of zero is 1.
func ParamsOf(q *samplerv1.Sampling, d Params) Params {
	set := func(v *int, q int32) {
		if q != 0 {
			*v = int(q)
		}
	}
	setFloat := func(v *float64, q float64) {
		if q != 0 || math.IsNaN(q) {
			*v = q
		}
	}
	set(&d.K, q.GetK())
	set(&d.Select, q.GetSelect())
	d.Pick = min(d.Pick, max(d.Select, 1))
	set(&d.Pick, q.GetPick())
	set(&d.Noises, q.GetNoises())
	set(&d.Keep, q.GetKeep())
	setFloat(&d.Sigma, q.GetSigma())
	if q.GetMode() != "" {
		d.Mode = q.GetMode()
	}
	setFloat(&d.Alpha, q.GetAlpha())
	set(&d.Steps, q.GetSteps())
	if q != nil && q.Beyond != nil {
		d.Beyond = int(q.GetBeyond())
	}
	setFloat(&d.Lower, q.GetLower())
	setFloat(&d.Upper, q.GetUpper())
	d.Seed = q.GetSeed()
	if d.Seed == 0 {
		d.Seed = 1
	}
	return d
}

// Message is params on the wire. [ParamsOf] of it is params again, whatever the defaults.
func Message(method string, p Params) *samplerv1.Sampling {
	q := &samplerv1.Sampling{
		Method: method, K: int32(p.K), Select: int32(p.Select), Pick: int32(p.Pick), Noises: int32(p.Noises), Sigma: p.Sigma,
		Keep: int32(p.Keep), Seed: p.Seed, Mode: p.Mode, Alpha: p.Alpha, Steps: int32(p.Steps), Lower: p.Lower, Upper: p.Upper,
	}
	if beyond := int32(p.Beyond); p.Steps != 0 { // a method that counts no steps has none beyond
		q.Beyond = &beyond
	}
	return q
}

// Check holds parameters against a bank [size, dim] before it is there, as far as they are ones that the method uses:
// those that its defaults set. The method checks them again, and what only it knows. Problems are violations.
func Check(m Method, p Params, size, dim int) error {
	d := m.Defaults()
	unused := map[string]bool{
		"mode": true, "k": d.K == 0, "select": d.Select == 0, "pick": d.Pick == 0, "noises": d.Noises == 0, "sigma": d.Sigma == 0, "keep": d.Keep == 0,
	}
	var ps Problems
	if err := p.Validate(size, dim); !errors.As(err, &ps) {
		return err
	}
	ps = slices.DeleteFunc(ps, func(p Problem) bool { return unused[p.Field] })
	if len(ps) == 0 {
		return nil
	}
	return Violations(ps)
}

// Violations turns the problems that a method found with its parameters into fields of the request, and leaves every
// other error as it is.
func Violations(err error) error {
	var ps Problems
	if !errors.As(err, &ps) {
		return err
	}
	var c fault.Checks
	for _, p := range ps {
		c.Add("sampling."+p.Field, "%s", p.Message)
	}
	return c.Err()
}

// ReportMessage is a report on the wire.
func ReportMessage(class, method string, p Params, r Report) *samplerv1.SamplingReport {
	return &samplerv1.SamplingReport{
		Class: class, BankSize: int32(r.Size), BoundarySize: int32(r.Selected), Samples: int32(r.Sampled), Sources: int32(r.Sources),
		IdQuantiles: r.ID.list(), BoundaryQuantiles: r.Boundary.list(), SampleQuantiles: r.Picked.list(),
		BeyondId: float32(r.BeyondID), Foreign: float32(r.Foreign), ForeignSamples: int32(r.Compared),
		MeanSourceCosine: float32(r.MeanCosineToSource), MeanAnchorCosine: float32(r.MeanCosineToAnchor),
		Warnings: Warnings(method, p, r), Sampling: Message(method, p),
	}
}

// list holds the seven quantiles in the order of the wire.
func (q Quantiles) list() []float32 {
	return []float32{float32(q.Min), float32(q.P05), float32(q.P25), float32(q.Median), float32(q.P75), float32(q.P95), float32(q.Max)}
}
