package runs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// check refuses a pipeline before anything of it is submitted, and tells everything at once that can be known by then: of
// every step whether what it names is there or made by another, and whether it may change it; of a step that is to begin
// at once also what its role says to the request. Steps come in an order in which they can run.
func (sub *submission) check(ctx context.Context, steps []*step) error {
	var c fault.Checks
	waits := map[*step]bool{} // for others, or for work under way; or it is not known
	for _, st := range steps {
		err := sub.named(ctx, st, steps)
		if err == nil {
			waits[st], err = sub.ahead(ctx, st, waits)
		}
		var f *fault.Error
		switch err = Fault(err); {
		case err == nil:
		case errors.As(err, &f) && f.Reason == fault.InvalidArgument:
			waits[st] = true
			told := inStep(st, err).(*fault.Error)
			for _, v := range told.Violations {
				c.Add(strings.TrimSuffix(st.at+".request_json."+v.Field, "."), "%s", v.Problem)
			}
			if len(told.Violations) == 0 {
				c.Add(st.at, "%s", told.Message)
			}
		default:
			return fault.Join(c.Err(), inStep(st, err))
		}
	}
	return c.Err()
}

// named looks for the resources that a step names, and for who owns what it changes.
func (sub *submission) named(ctx context.Context, st *step, steps []*step) error {
	names, err := st.names()
	if err != nil {
		return err
	}
	var c fault.Checks
	for _, name := range slices.Sorted(maps.Keys(names)) {
		collection, id, _ := strings.Cut(name, "/")
		if !slices.Contains(sub.p.Collections, collection) || !ood.ValidID(id) {
			continue
		}
		if slices.ContainsFunc(steps, func(other *step) bool { return other.of.Makes && other.target == name }) {
			continue
		}
		by, there, err := sub.p.Made(ctx, name)
		switch {
		case err != nil:
			return err
		case there && name == st.target && !st.of.Makes:
			if err := auth.Steers(ctx, by.Owner); err != nil {
				return err
			}
		case !there:
			making, err := sub.underWay(ctx, name)
			if err != nil {
				return err
			}
			c.That(making, "", "%s is not there, and neither a step nor a run under way makes it", name)
		}
	}
	return c.Err()
}

// underWay says whether a run that has not ended makes a resource.
func (sub *submission) underWay(ctx context.Context, resource string) (bool, error) {
	if sub.open == nil {
		open, err := sub.s.unfinished(ctx)
		if err != nil {
			return false, err
		}
		sub.open = map[string]bool{}
		for _, run := range open {
			sub.open[run.Target] = true
		}
	}
	return sub.open[resource], nil
}

// ahead judges a step as far as that can be done before others are submitted, and plans it where it begins at once. It
// says whether those that wait for it have to wait.
func (sub *submission) ahead(ctx context.Context, st *step, waits map[*step]bool) (bool, error) {
	later := slices.ContainsFunc(st.after, func(dep *step) bool { return waits[dep] })
	if later && !st.of.Makes { // what it changes is not known yet
		return true, nil
	}
	v, err := sub.judge(ctx, st)
	if err != nil {
		return true, err
	}
	if later || v.fate != runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED || st.of.Plan == nil {
		return v.fate != runv1.PipelineStepFate_PIPELINE_STEP_FATE_DONE, nil
	}
	p, err := st.of.Plan(ctx, compacted(st.payload), "")
	st.planned = &p
	return true, err
}
