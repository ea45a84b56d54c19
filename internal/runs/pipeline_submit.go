package runs

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// A submission is a function of what is there: for every step it looks for the run of the same step and request, and
// for the resource that the step makes, and does what is missing. So a submission that breaks off is simply repeated.
//
// The request id of a step's run is a hash of (pipeline, kind, request) and a generation, which counts the runs that
// were submitted anew because what the one before had made is gone. A step that only changes its target has the origin
// of the run that made the target in its hash, too: an evaluation belongs to one training.

// SubmitPipeline submits what is missing of a pipeline.
func (s Server) SubmitPipeline(ctx context.Context, q *runv1.SubmitPipelineRequest) (*runv1.SubmitPipelineResponse, error) {
	steps, err := s.Pipelines.stepsOf(q)
	if err != nil {
		return nil, err
	}
	if steps, err = ordered(steps); err != nil {
		return nil, err
	}
	sub := &submission{s: s.Runs, p: s.Pipelines, pipeline: q.PipelineId, owner: auth.Owner(ctx)}
	if err := sub.check(ctx, steps); err != nil { // before anything is submitted
		return nil, err
	}
	out := &runv1.SubmitPipelineResponse{}
	for _, step := range steps {
		if err := sub.do(ctx, step); err != nil {
			return nil, inStep(step, err)
		}
		answer := &runv1.PipelineStepRun{Id: step.id, Fate: step.fate}
		if step.run != nil {
			answer.Run = step.run.Proto()
		}
		out.Steps = append(out.Steps, answer)
	}
	return out, nil
}

// inStep says which step an error is about.
func inStep(step *step, err error) error {
	err = Fault(err)
	var f *fault.Error
	if !errors.As(err, &f) {
		return fmt.Errorf("step %s: %w", step.id, err)
	}
	told := *f
	told.Message, told.Violations = "", nil
	for _, v := range f.Violations {
		told.Violations = append(told.Violations, fault.Violation{Field: v.Field, Problem: "(step " + step.id + ") " + v.Problem})
	}
	if len(told.Violations) == 0 {
		told.Message = "step " + step.id + ": " + f.Message
	}
	return &told
}

// submission is one call of SubmitPipeline.
type submission struct {
	s        *Service
	p        Pipelines
	pipeline string
	owner    string
	open     map[string]bool // targets of runs that have not ended; nil: not asked for
}

// verdict is what is to be done with a step.
type verdict struct {
	fate runv1.PipelineStepFate
	run  *Run // the run that is there
	next Spec // what is submitted when one is submitted anew
}

// do brings a step on its way; those that it waits for have been dealt with.
func (sub *submission) do(ctx context.Context, step *step) error {
	v, err := sub.judge(ctx, step)
	if err != nil {
		return err
	}
	step.fate, step.run = v.fate, v.run
	anew := false
	for _, dep := range step.after {
		if dep.fate != runv1.PipelineStepFate_PIPELINE_STEP_FATE_DONE {
			v.next.Options.After = append(v.next.Options.After, dep.run.ID)
		}
		anew = anew || dep.fate == runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED
	}
	if v.fate == runv1.PipelineStepFate_PIPELINE_STEP_FATE_RETRIED && !anew {
		run, err := sub.s.Retry(ctx, v.run.ID)
		if err == nil {
			step.run = &run
			return nil
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrState) { // else what it waited for is gone: begin anew
			return err
		}
	}
	if v.fate != runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED && v.fate != runv1.PipelineStepFate_PIPELINE_STEP_FATE_RETRIED {
		return nil
	}
	if p := step.planned; p != nil {
		v.next.Plan = func(context.Context, []byte, string) (Plan, error) { return *p, nil }
	}
	run, created, err := sub.s.Submit(ctx, v.next)
	if err != nil {
		return err
	}
	step.run, step.fate = &run, runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED
	if !created { // by the same submission at the same time
		step.fate = runv1.PipelineStepFate_PIPELINE_STEP_FATE_UNDER_WAY
	}
	return nil
}

// judge says what is to be done with a step, and changes nothing.
func (sub *submission) judge(ctx context.Context, step *step) (verdict, error) {
	made, there, err := sub.p.Made(ctx, step.target)
	if err != nil {
		return verdict{}, err
	}
	incarnation := ""
	if !step.of.Makes {
		if incarnation, err = sub.incarnation(ctx, step, made.Run, there); err != nil {
			return verdict{}, err
		}
	}
	run, next, err := sub.newest(ctx, step, incarnation)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{fate: runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED, run: run, next: next}
	switch {
	case run != nil && !run.State.Terminal():
		v.fate = runv1.PipelineStepFate_PIPELINE_STEP_FATE_UNDER_WAY
	case run != nil && run.State == Succeeded && (!step.of.Makes || there && (made.Run == "" || made.Run == ood.Runs.Name(run.ID))):
		v.fate = runv1.PipelineStepFate_PIPELINE_STEP_FATE_DONE
	case step.of.Makes && there:
		v.fate = runv1.PipelineStepFate_PIPELINE_STEP_FATE_DONE
		v.run, err = sub.found(ctx, step, made.Run)
	case run != nil && run.State != Succeeded:
		v.fate = runv1.PipelineStepFate_PIPELINE_STEP_FATE_RETRIED
	}
	return v, err
}

// incarnation is the origin of the run that made, or will make, the target of a step that changes it.
func (sub *submission) incarnation(ctx context.Context, step *step, made string, there bool) (string, error) {
	if step.maker != nil && step.maker.run != nil {
		return step.maker.run.Origin, nil
	}
	if !there || made == "" {
		return "", nil
	}
	id, err := ood.Runs.ID(made)
	if err != nil {
		return "", fmt.Errorf("%s was made by %q: %w", step.target, made, err)
	}
	run, err := sub.s.Get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return id, nil
	}
	return run.Origin, err
}

// newest returns the last run that this step has made with this request, after retries, nil when there is none, and
// what the next one would be.
func (sub *submission) newest(ctx context.Context, step *step, incarnation string) (*Run, Spec, error) {
	var newest *Run
	for generation := 0; ; generation++ {
		spec := Spec{
			Kind: step.kind, Owner: sub.owner, Payload: step.payload, Target: step.target, Unit: step.of.Unit, Options: step.options,
			RequestID: fmt.Sprintf("pipeline-%s-%d", hashOf(sub.pipeline, step.kind, string(compacted(step.payload)), incarnation), generation),
			Plan:      step.of.Plan, Later: step.of.Plan == nil,
		}
		id, err := sub.s.reserved(ctx, spec, "sha256:"+hashOf(string(compacted(step.payload))))
		if errors.Is(err, ErrNotFound) {
			return newest, spec, nil
		}
		if err != nil {
			return nil, Spec{}, err
		}
		run, err := sub.s.head(ctx, id)
		if errors.Is(err, ErrNotFound) { // reserved, and never accepted: it is made now
			return newest, spec, nil
		}
		if err != nil {
			return nil, Spec{}, err
		}
		newest = &run
	}
}

// head is the last run of a chain of retries.
func (s *Service) head(ctx context.Context, id string) (Run, error) {
	run, err := s.Get(ctx, id)
	for err == nil && run.RetriedBy != "" {
		var next Run
		next, err = s.Get(ctx, run.RetriedBy)
		if errors.Is(err, ErrNotFound) { // reserved, and never accepted; or deleted
			return run, nil
		}
		if err == nil {
			run = next
		}
	}
	return run, err
}

// found returns the run that made what a step would make, nil where its record is gone. It is AlreadyExists when that
// run's request contradicts the step's.
func (sub *submission) found(ctx context.Context, step *step, made string) (*Run, error) {
	id, err := ood.Runs.ID(made)
	if err != nil { // made before resources named their run
		return nil, nil
	}
	run, err := sub.s.Get(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && run.Owner != sub.owner { // what it says is nobody else's business
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	request := step.of.Request()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(run.Payload, request); err != nil {
		return nil, fmt.Errorf("read the request of %s: %w", made, err)
	}
	if field := difference(step.request.ProtoReflect(), request.ProtoReflect()); field != "" {
		return nil, fault.New(fault.AlreadyExists, "%s is there, made by %s with another %s; delete it, give the step another id, or leave the step away to use it as it is",
			step.target, made, field)
	}
	return &run, nil
}
