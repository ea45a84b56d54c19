package app

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/embedmap"
	"github.com/dreamood/dreamood/internal/fault"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	"github.com/dreamood/dreamood/services/sampler"
)

// Sampling is stage 2 by hand: from NumPy files to NumPy files, without a server. The zero value of everything but Bank
// and Out is usable.
type Sampling struct {
	Bank    string // [C, N, D] or [N, D] float32, the ID embeddings of C classes or of one
	Labels  string // [N] whole numbers, the class of every row of a bank [N, D]; "" = one class
	Anchors string // [C, D] float32, the token embeddings of the classes; "" = embeddings of unit norm
	Noise   string // [rounds, candidates, D] float32, standard normal, in place of random noise; "" = none

	Classes  []int               // classes wanted; empty = all
	Settings *samplerv1.Sampling // zero fields are the method's defaults, fitted to the bank
	Count    int                 // samples per class; 0 = what Rounds says
	Rounds   int                 // rounds per class; 0 = one, where there is no Count
	Tune     string              // goal for sigma, see [sampler.ParseGoal]; "" = sigma as it is

	Out    string // [C, n, D] float32, unit norm times the norm of the anchor
	Report string // JSON; "" = none
	Picks  string // JSON; "" = none
	Map    string // SVG; "" = none
	MapBy  string // how the map is made, see [embedmap.Methods]; "" = the first
}

// Sampled is what a sampling did.
type Sampled struct {
	Shape   []int                       // of the file
	Tuning  *sampler.Tuning             // nil where sigma was not tuned
	Reports []*samplerv1.SamplingReport // of every class, in the order of the file
}

// Run samples. Everything that can be wrong with the request is found before any sample is drawn, and reported at once
// as violations of the flag ("--bank") or of the setting ("sampling.k"). The files appear whole, or not at all where an
// error is returned. show is told how many samples of how many are there.
func (j Sampling) Run(ctx context.Context, show func(done, total int)) (*Sampled, error) {
	if err := j.checkFiles(); err != nil {
		return nil, err
	}
	in, err := openInputs(j)
	if err != nil {
		return nil, err
	}
	defer in.close()
	p, err := j.plan(ctx, in)
	if err != nil {
		return nil, err
	}
	result := &Sampled{Shape: []int{len(p.classes), p.count, in.dim}}
	if p.goal != nil {
		if result.Tuning, err = p.tune(ctx, in); err != nil {
			return nil, err
		}
		for i := range p.params {
			p.params[i].Sigma = result.Tuning.Sigma
		}
	}
	out, err := j.createOutputs(result.Shape)
	if err != nil {
		return nil, err
	}
	defer out.discard()
	list := make([]drawn, len(p.classes))
	total := len(p.classes) * p.count
	for i, class := range p.classes {
		list[i], err = p.sample(ctx, in, i, out, func(done int) { show(i*p.count+done, total) })
		if err != nil {
			return nil, fmt.Errorf("class %d: %w", class, err)
		}
	}
	if result.Reports, err = p.report(ctx, in, list); err != nil {
		return nil, err
	}
	if err := out.describe(result); err != nil {
		return nil, err
	}
	if err := out.draw(ctx, j, p, in, list); err != nil {
		return nil, err
	}
	return result, out.finish()
}

// plan is a request that was checked.
type plan struct {
	method  sampler.Method
	classes []int
	params  []sampler.Params // of every class wanted: its bank may be smaller
	count   int              // samples per class
	goal    *sampler.Goal
}

// plan checks settings and inputs against each other, all of them.
func (j Sampling) plan(ctx context.Context, in *inputs) (*plan, error) {
	var checks fault.Checks
	method, err := sampler.Lookup(j.Settings.GetMethod())
	if err != nil {
		return nil, fault.Invalid("sampling.method", "%w", err)
	}
	p := &plan{method: method, classes: j.Classes}
	if len(p.classes) == 0 {
		for class := range in.sizes {
			p.classes = append(p.classes, class)
		}
	}
	checks.That(j.Count == 0 || j.Rounds == 0, "--count", "and --rounds are two ways to say the same; give one")
	checks.That(j.MapBy == "" || slices.Contains(embedmap.Methods, j.MapBy), "--map-by", "%q; there are %s", j.MapBy, strings.Join(embedmap.Methods, ", "))
	checks.That(j.Count >= 0 && j.Count <= sampler.MaxCount, "--count", "%d; want 1 to %d per class", j.Count, sampler.MaxCount)
	checks.That(j.Rounds >= 0 && j.Rounds <= sampler.MaxCount, "--rounds", "%d; want 1 to %d", j.Rounds, sampler.MaxCount)
	if j.Tune != "" {
		goal, err := sampler.ParseGoal(j.Tune)
		if err != nil {
			checks.Add("--tune", "%v", err)
		}
		checks.That(goal.Kind != sampler.ByCosine || in.anchors.Rows > 0, "--tune", "%q is a cosine to the anchor; give the anchors with --anchors", j.Tune)
		checks.That(method.Defaults().Sigma > 0, "--tune", "the method %s adds no noise, so there is no sigma to tune", method.Name())
		p.goal = &goal
	}
	seen := map[string]bool{}
	for _, class := range p.classes {
		if class < 0 || class >= len(in.sizes) {
			checks.Add("--class", "there is no class %d; %s has classes 0 to %d", class, j.Bank, len(in.sizes)-1)
			continue
		}
		params := sampler.ParamsOf(j.Settings, method.Defaults().FittedTo(in.sizes[class], in.dim))
		if in.noises > 0 && j.Settings.GetNoises() == 0 {
			params.Noises = in.noises
		}
		for _, v := range violationsOf(sampler.Check(method, params, in.sizes[class], in.dim)) {
			if text := v.Field + v.Problem; !seen[text] {
				seen[text] = true
				checks.Add(v.Field, "%s (class %d)", v.Problem, class)
			}
		}
		p.params = append(p.params, params)
	}
	if err := checks.Err(); err != nil {
		return nil, err
	}
	return p, p.settle(ctx, j, in)
}

// settle finds the number of samples, and holds the noise and the values of the files against it.
func (p *plan) settle(ctx context.Context, j Sampling, in *inputs) error {
	var checks fault.Checks
	first := p.params[0]
	per := first.PerRound()
	p.count = j.Count
	switch {
	case p.count > 0:
	case per == 0:
		checks.That(j.Rounds == 0, "--rounds", "the method %s does not draw in rounds; say how many samples of a class with --count", p.method.Name())
		p.count = first.Select
	default:
		rounds := max(1, j.Rounds)
		checks.That(rounds <= sampler.MaxCount/per, "--rounds", "%d rounds of %d samples are more than %d per class", rounds, per, sampler.MaxCount)
		p.count = rounds * per
	}
	checks.That(len(p.classes) <= math.MaxInt64/8/max(1, p.count)/in.dim, "--count", "%d samples of %d classes are too many", p.count, len(p.classes))
	if in.noises > 0 {
		per = max(1, per)
		checks.That(in.noises == first.Noises, "sampling.noises", "is %d, and %s has %d candidates per round; leave --noises out", first.Noises, j.Noise, in.noises)
		has, rounds := in.noise.Rows/in.noises, (p.count+per-1)/per
		checks.That(rounds <= has, "--noise", "%s has noise for %d rounds, and %d samples of %d per round are %d; lower --count to %d", j.Noise, has, p.count, per, rounds, has*per)
	}
	if err := checks.Err(); err != nil {
		return err
	}
	return in.verify(ctx, j, p.classes)
}
