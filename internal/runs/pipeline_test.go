package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// works is a small mesh of kinds whose requests are JSON objects: "make" makes what its field id says, "measure"
// measures what its field name names. Its workers fail while broken says so.
type works struct {
	mu     sync.Mutex
	made   map[string]string // run by resource
	broken map[string]bool   // targets
	runs   int               // shards worked on
}

func field(m proto.Message, name string) string {
	return m.(*structpb.Struct).GetFields()[name].GetStringValue()
}

func (w *works) pipelines(local bool) Pipelines {
	request := func() proto.Message { return &structpb.Struct{} }
	made := StepKind{Request: request, Makes: true, Unit: "things", Target: func(m proto.Message) (string, error) {
		if field(m, "id") == "" {
			return "", errors.New("id is missing")
		}
		return "things/" + field(m, "id"), nil
	}}
	made.Check = func(m proto.Message) error {
		var c fault.Checks
		c.That(field(m, "color") != "loud", "color", "is too loud")
		c.That(field(m, "taste") != "loud", "taste", "is too loud, too")
		return c.Err()
	}
	measured := StepKind{Request: request, Unit: "things", Target: func(m proto.Message) (string, error) { return field(m, "name"), nil }}
	if local {
		made.Plan = w.plan
	}
	return Pipelines{
		Kinds: map[string]StepKind{"make": made, "measure": measured},
		Made: func(_ context.Context, resource string) (Maker, bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			run, there := w.made[resource]
			return Maker{Run: run}, there, nil
		},
		Collections: []string{"things"},
	}
}

func (w *works) plan(_ context.Context, payload []byte, _ string) (Plan, error) {
	if strings.Contains(string(payload), "nonsense") {
		return Plan{}, fault.Invalid("id", "is nonsense")
	}
	return Plan{Shards: 2}, nil
}

func (w *works) worker(kind string) Worker {
	return Worker{
		Kind: kind, Plan: w.plan,
		Work: func(_ context.Context, task *Task) ([]byte, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.runs++
			if w.broken[task.Run.Target] {
				return nil, fault.New(fault.FailedPrecondition, "%s is broken", task.Run.Target)
			}
			return nil, nil
		},
		Finish: func(_ context.Context, run Run) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if kind == "make" {
				w.made[run.Target] = "runs/" + run.ID
			}
			return run.Target, nil
		},
	}
}

func newWorks() *works { return &works{made: map[string]string{}, broken: map[string]bool{}} }

// chain is a, b of a, c of b, and a measurement of c.
func chain() *runv1.SubmitPipelineRequest {
	return &runv1.SubmitPipelineRequest{PipelineId: "p", Steps: []*runv1.PipelineStep{
		{Id: "look", Kind: "measure", RequestJson: `{"name": "things/c", "with": ["ruler"]}`},
		{Id: "c", Kind: "make", RequestJson: `{"id": "c", "of": ["things/b"]}`},
		{Id: "b", Kind: "make", RequestJson: `{"id": "b", "of": {"deep": "things/a"}}`},
		{Id: "a", Kind: "make", RequestJson: `{"id": "a"}`, Options: &runv1.RunOptions{Priority: runv1.Priority_PRIORITY_HIGH, Labels: map[string]string{"team": "x"}}},
	}}
}

// submitted is the answer in a line: "a:submitted b:done", in the order in which the steps can run.
func submitted(t *testing.T, s Server, q *runv1.SubmitPipelineRequest) (string, map[string]*runv1.Run) {
	t.Helper()
	got, err := s.SubmitPipeline(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	byStep := map[string]*runv1.Run{}
	for _, step := range got.Steps {
		list = append(list, step.Id+":"+strings.ToLower(strings.TrimPrefix(step.Fate.String(), "PIPELINE_STEP_FATE_")))
		byStep[step.Id] = step.Run
	}
	return strings.Join(list, " "), byStep
}

func (w *works) wantFates(t *testing.T, s Server, q *runv1.SubmitPipelineRequest, want string) map[string]*runv1.Run {
	t.Helper()
	got, runs := submitted(t, s, q)
	if got != want {
		t.Fatalf("submitted: %s\nwant:      %s", got, want)
	}
	return runs
}

func awaitAll(t *testing.T, s *Service, runs map[string]*runv1.Run, want State) {
	t.Helper()
	for step, run := range runs {
		if run == nil {
			t.Fatalf("step %s has no run", step)
		}
		end, _ := await(t, s, strings.TrimPrefix(run.Name, "runs/"))
		if end.State != want {
			t.Fatalf("step %s is %s (%+v), want %s", step, end.State, end.Failure, want)
		}
	}
}

const allNew, allDone = "a:submitted b:submitted c:submitted look:submitted", "a:done b:done c:done look:done"

func TestPipelineDoesOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{true, false} { // on a role that plans the kind, and on another one
		t.Run(fmt.Sprint("local=", local), func(t *testing.T) {
			s, w := mesh(t, fast), newWorks()
			server := Server{Runs: s, Pipelines: w.pipelines(local)}
			first := w.wantFates(t, server, chain(), allNew)
			if o := first["a"].Options; o.Labels["pipeline"] != "p" || o.Labels["step"] != "a" || o.Labels["team"] != "x" || o.Priority != runv1.Priority_PRIORITY_HIGH {
				t.Errorf("options %v", o)
			}
			if got := first["look"].WaitingFor; len(got) != 1 || got[0] != first["c"].Name {
				t.Errorf("the measurement waits for %v", got)
			}
			again := w.wantFates(t, server, chain(), strings.ReplaceAll(allNew, "submitted", "under_way"))
			for step, run := range first {
				if again[step].Name != run.Name {
					t.Errorf("%s: %s, then %s", step, run.Name, again[step].Name)
				}
			}
			serve(t, s, w.worker("make"))
			serve(t, s, w.worker("measure"))
			awaitAll(t, s, first, Succeeded)
			before := w.runs
			other := Server{Runs: s, Pipelines: w.pipelines(!local)} // any role gives the same answer
			w.wantFates(t, other, chain(), allDone)

			w.mu.Lock()
			delete(w.made, "things/b")
			w.mu.Unlock()
			partly := w.wantFates(t, server, chain(), "a:done b:submitted c:done look:done")
			awaitAll(t, s, map[string]*runv1.Run{"b": partly["b"]}, Succeeded)
			w.wantFates(t, other, chain(), allDone)

			w.mu.Lock()
			delete(w.made, "things/c") // another c is another thing to measure
			w.mu.Unlock()
			partly = w.wantFates(t, server, chain(), "a:done b:done c:submitted look:submitted")
			awaitAll(t, s, map[string]*runv1.Run{"c": partly["c"], "look": partly["look"]}, Succeeded)
			w.wantFates(t, server, chain(), allDone)
			if did := w.runs - before; did != 6 { // b, c and the measurement, two shards each
				t.Errorf("%d shards were worked on for what was missing, want 6", did)
			}
		})
	}
}

func TestPipelineRetriesWhatFailed(t *testing.T) {
	t.Parallel()
	s, w := mesh(t, fast), newWorks()
	server := Server{Runs: s, Pipelines: w.pipelines(true)}
	w.broken["things/b"] = true
	serve(t, s, w.worker("make"))
	serve(t, s, w.worker("measure"))
	first := w.wantFates(t, server, chain(), allNew)
	awaitAll(t, s, map[string]*runv1.Run{"a": first["a"]}, Succeeded)
	awaitAll(t, s, map[string]*runv1.Run{"b": first["b"], "c": first["c"], "look": first["look"]}, Failed)
	w.mu.Lock()
	w.broken["things/b"] = false
	w.mu.Unlock()
	second := w.wantFates(t, server, chain(), "a:done b:retried c:retried look:retried")
	if second["b"].RetryOf != first["b"].Name || second["c"].RetryOf != first["c"].Name {
		t.Errorf("b is %v, c is %v", second["b"], second["c"])
	}
	awaitAll(t, s, second, Succeeded)
	w.wantFates(t, server, chain(), allDone)

	// What was waited for is gone with its record: the waiting step begins anew.
	w.mu.Lock()
	delete(w.made, "things/a")
	w.made["things/c"] = "" // made before resources named their run
	w.broken["things/a"] = true
	w.mu.Unlock()
	third := w.wantFates(t, server, chain(), "a:submitted b:done c:done look:done")
	awaitAll(t, s, map[string]*runv1.Run{"a": third["a"]}, Failed)
}

func TestPipelineUsesWhatOthersMadeUnlessItContradicts(t *testing.T) {
	t.Parallel()
	s, w := mesh(t, fast), newWorks()
	server := Server{Runs: s, Pipelines: w.pipelines(true)}
	hand := submit(t, s, Spec{Kind: "make", Target: "things/a", Payload: []byte(`{"id": "a", "size": 3}`)})
	serve(t, s, w.worker("make"))
	await(t, s, hand.ID)
	one := func(json string) *runv1.SubmitPipelineRequest {
		return &runv1.SubmitPipelineRequest{PipelineId: "q", Steps: []*runv1.PipelineStep{{Id: "s", Kind: "make", RequestJson: json}}}
	}
	runs := w.wantFates(t, server, one(`{"size": 3, "id": "a"}`), "s:done")
	if runs["s"].GetName() != "runs/"+hand.ID {
		t.Errorf("done by %v", runs["s"])
	}
	_, err := server.SubmitPipeline(t.Context(), one(`{"id": "a", "size": 4}`))
	if fault.ReasonOf(err) != fault.AlreadyExists || !strings.Contains(err.Error(), "things/a is there, made by runs/"+hand.ID+" with another fields") {
		t.Errorf("a contradiction is answered with %v", err)
	}
	w.made["things/z"] = "" // nobody knows how
	if runs := w.wantFates(t, server, one(`{"id": "z"}`), "s:done"); runs["s"] != nil {
		t.Errorf("made by %v", runs["s"])
	}
}

func TestPipelineRefuses(t *testing.T) {
	t.Parallel()
	s, w := mesh(t, fast), newWorks()
	server := Server{Runs: s, Pipelines: w.pipelines(true)}
	step := func(id, json string, after ...string) *runv1.PipelineStep {
		return &runv1.PipelineStep{Id: id, Kind: "make", RequestJson: json, After: after}
	}
	for want, steps := range map[string][]*runv1.PipelineStep{
		"want 1 to 64":           nil,
		`id "No"`:                {step("No", `{"id": "x"}`)},
		"is there twice":         {step("a", `{"id": "x"}`), step("a", `{"id": "y"}`)},
		"and so does a":          {step("a", `{"id": "x"}`), step("b", `{"id": "x"}`)},
		`no step "z"`:            {step("a", `{"id": "x"}`, "z")},
		"request_json":           {step("a", `{"id": `)},
		"id is missing":          {step("a", `{}`)},
		`want one of make, meas`: {{Id: "a", Kind: "paint", RequestJson: "{}"}},
		"use the step's own":     {{Id: "a", Kind: "make", RequestJson: `{"id": "x"}`, Options: &runv1.RunOptions{After: []string{"runs/x"}}}},
		"circle: b waits for c waits for d waits for b": {
			step("a", `{"id": "a", "of": "things/b"}`), step("b", `{"id": "b", "of": "things/c"}`), step("c", `{"id": "c"}`, "d"), step("d", `{"id": "d", "of": "things/b"}`),
		},
		"(step b) is nonsense": {step("b", `{"id": "nonsense"}`)},
	} {
		_, err := server.SubmitPipeline(t.Context(), &runv1.SubmitPipelineRequest{PipelineId: "p", Steps: steps})
		if fault.ReasonOf(err) != fault.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	list, _, err := s.List(t.Context(), Filter{}, 0, "")
	if err != nil || len(list) != 0 {
		t.Errorf("refused pipelines left %v, %v", list, err)
	}
}

// TestPipelineTellsEverythingAtOnce: the fields of all steps, then what they name and what their role says, those that
// wait for others too; nothing is submitted before.
func TestPipelineTellsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	s, w := mesh(t, fast), newWorks()
	server := Server{Runs: s, Pipelines: w.pipelines(true)}
	submit(t, s, Spec{Kind: "make", Target: "things/soon"})
	step := func(id, json string) *runv1.PipelineStep {
		return &runv1.PipelineStep{Id: id, Kind: "make", RequestJson: json}
	}
	for _, c := range []struct {
		steps []*runv1.PipelineStep
		want  []fault.Violation
	}{
		{[]*runv1.PipelineStep{step("a", `{"id": "a", "color": "loud", "taste": "loud"}`), step("b", `{"id": "b", "of": "things/a", "color": "loud"}`), step("c", `{}`)}, []fault.Violation{
			{Field: "steps[0].request_json.color", Problem: "(a) is too loud"}, {Field: "steps[0].request_json.taste", Problem: "(a) is too loud, too"},
			{Field: "steps[1].request_json.color", Problem: "(b) is too loud"}, {Field: "steps[2].request_json", Problem: "(c) id is missing"},
		}},
		{[]*runv1.PipelineStep{step("a", `{"id": "a", "of": "things/nowhere"}`), step("b", `{"id": "b", "of": ["things/a", "things/void"]}`),
			step("c", `{"id": "nonsense"}`), step("d", `{"id": "d"}`), step("e", `{"id": "e", "of": "things/soon"}`)}, []fault.Violation{
			{Field: "steps[0].request_json", Problem: "(step a) things/nowhere is not there, and neither a step nor a run under way makes it"},
			{Field: "steps[2].request_json.id", Problem: "(step c) is nonsense"},
			{Field: "steps[1].request_json", Problem: "(step b) things/void is not there, and neither a step nor a run under way makes it"},
		}},
	} {
		_, err := server.SubmitPipeline(t.Context(), &runv1.SubmitPipelineRequest{PipelineId: "p", Steps: c.steps})
		var f *fault.Error
		if !errors.As(err, &f) || f.Reason != fault.InvalidArgument || !slices.Equal(f.Violations, c.want) {
			t.Errorf("answered with %v\nwant %v", err, c.want)
		}
	}
	list, _, err := s.List(t.Context(), Filter{}, 0, "")
	if err != nil || len(list) != 1 {
		t.Errorf("refused pipelines left %d runs beside the one under way, %v", len(list)-1, err)
	}
}
