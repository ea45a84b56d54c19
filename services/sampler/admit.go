package sampler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// maxTried is the size up to which a class is prepared before a run is accepted. That takes seconds at most.
const maxTried = 10_000

// plan holds the request against its space, refuses what cannot work, completes the request and cuts it into shards.
func (s *Service) plan(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var q samplerv1.SampleSetRequest
	if err := protojson.Unmarshal(payload, &q); err != nil {
		return runs.Plan{}, runs.Drop(fmt.Errorf("read the request: %w", err))
	}
	if err := checkFields(&q); err != nil {
		return runs.Plan{}, err
	}
	space, rounds, err := s.fitted(ctx, &q)
	if err != nil {
		return runs.Plan{}, err
	}
	if err := s.admit(ctx, &q, space, run); err != nil {
		return runs.Plan{}, err
	}
	payload, err = protojson.Marshal(&q)
	l := layoutOf(len(q.Classes), int(q.PerClass), s.cfg.ShardSize, rounds)
	return runs.Plan{Payload: payload, Total: int64(len(q.Classes)) * int64(q.PerClass), Shards: l.shards}, err
}

// CheckSampleSet looks at the fields of a request alone.
func CheckSampleSet(q *samplerv1.SampleSetRequest) error {
	return fault.Join(checkFields(q), CheckSampling(q.Sampling))
}

// CheckSampling refuses settings that fit no bank, however large.
func CheckSampling(q *samplerv1.Sampling) error {
	method, err := Lookup(q.GetMethod())
	if err != nil {
		return fault.Invalid("sampling.method", "%w", err)
	}
	return Check(method, ParamsOf(q, method.Defaults()), math.MaxInt32, PaperDim)
}

// checkFields looks at what can be said without the space.
func checkFields(q *samplerv1.SampleSetRequest) error {
	var c fault.Checks
	c.That(ood.ValidID(q.SetId), "set_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.SetId)
	c.That(q.PerClass >= 1 && q.PerClass <= MaxCount, "per_class", "%d; want 1 to %d", q.PerClass, MaxCount)
	if _, err := ood.Spaces.ID(q.Space); err != nil {
		c.Add("space", "%v", err)
	}
	return c.Err()
}

// fitted completes the classes of a request from its space, and holds it against it.
func (s *Service) fitted(ctx context.Context, q *samplerv1.SampleSetRequest) (*embedderv1.Space, int, error) {
	r, err := s.deps.Embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: q.Space})
	if err != nil {
		return nil, 0, fmt.Errorf("ask the embedder for %q: %w", q.Space, err)
	}
	if len(q.Classes) == 0 {
		q.Classes = classNames(r.Space)
	}
	rounds, err := fit(q, r.Space)
	return r.Space, rounds, err
}

// admit refuses what cannot work, before anything is queued: a taken id, and what the method itself refuses: settings, or
// more samples than it can give. It is asked for the last sample of the smallest class.
func (s *Service) admit(ctx context.Context, q *samplerv1.SampleSetRequest, space *embedderv1.Space, run string) error {
	if err := errors.Join(s.sets.Free(ctx, q.SetId), s.deps.Runs.FreeTarget(ctx, KindSampleSet, ood.Embeddings.Name(q.SetId), run)); err != nil {
		return err
	}
	var smallest *embedderv1.SpaceClass
	for _, c := range space.Classes {
		if slices.Contains(q.Classes, c.Name) && (smallest == nil || c.Count < smallest.Count) {
			smallest = c
		}
	}
	if smallest.Count > maxTried {
		return nil
	}
	w, err := s.prepare(ctx, q.Space, smallest.Name, q.Sampling)
	if err != nil {
		return err
	}
	last := Range{Class: uint32(w.class.label), Offset: int(q.PerClass) - 1, Count: 1, Anchor: smallest.Anchor}
	if err := w.ready.sampler.Sample(ctx, last, func(Outlier) error { return nil }); err != nil && ctx.Err() == nil {
		return fault.Invalid("per_class", "class %s: %w", smallest.Name, err)
	}
	return ctx.Err()
}

// fit holds the classes and settings of a request against a space, and returns how many rounds the class with the fewest
// takes. It reports everything that is wrong, and of which classes.
func fit(q *samplerv1.SampleSetRequest, space *embedderv1.Space) (rounds int, err error) {
	var checks fault.Checks
	method, err := Lookup(q.Sampling.GetMethod())
	if err != nil {
		checks.Add("sampling.method", "%v", err)
	}
	found := map[fault.Violation][]string{}
	var order []fault.Violation
	for i, name := range q.Classes {
		field := fmt.Sprintf("classes[%d]", i)
		at := slices.IndexFunc(space.Classes, func(c *embedderv1.SpaceClass) bool { return c.Name == name })
		checks.That(at >= 0, field, "%s has no class %q; it has %s", space.Name, name, classNames(space))
		checks.That(!slices.Contains(q.Classes[:i], name), field, "%q is named twice", name)
		if at < 0 || method == nil {
			continue
		}
		size, dim := int(space.Classes[at].Count), int(space.Dimension)
		params := ParamsOf(q.Sampling, method.Defaults().FittedTo(size, dim))
		for _, v := range violations(Check(method, params, size, dim)) {
			if found[v] == nil {
				order = append(order, v)
			}
			found[v] = append(found[v], name)
		}
		n := roundsOf(int(q.PerClass), roundOf(params))
		rounds = cmp.Or(min(rounds, n), n)
	}
	for _, v := range order {
		checks.Add(v.Field, "%s (%s)", v.Problem, named(found[v]))
	}
	return rounds, checks.Err()
}

// violations are those of an error.
func violations(err error) []fault.Violation {
	var f *fault.Error
	if !errors.As(err, &f) {
		return nil
	}
	return f.Violations
}

// named lists a few classes.
func named(classes []string) string {
	const most = 3
	if len(classes) <= most {
		return "in " + strings.Join(classes, ", ")
	}
	return fmt.Sprintf("in %s and %d more", strings.Join(classes[:most], ", "), len(classes)-most)
}

func classNames(space *embedderv1.Space) []string {
	var names []string
	for _, c := range space.Classes {
		names = append(names, c.Name)
	}
	return names
}
