package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// Labels of the runs of a pipeline.
const (
	labelPipeline = "pipeline"
	labelStep     = "step"
)

// maxSteps of one pipeline.
const maxSteps = 64

// Pipelines is what SubmitPipeline must know of the work that a mesh can do.
type Pipelines struct {
	Kinds map[string]StepKind
	// Made looks for a resource, and says who made it.
	Made func(ctx context.Context, resource string) (by Maker, there bool, err error)
	// Collections are the first parts of the names of resources: a request that names one, "sets/demo", needs it.
	Collections []string
}

// Maker is who made a resource.
type Maker struct {
	Run   string // its name; empty where that is not known
	Owner string // of the resource; empty where clients are not authenticated
}

// StepKind is a kind of run that a step of a pipeline may be.
type StepKind struct {
	Request func() proto.Message                // an empty request; its fields request_id and options are not the step's
	Target  func(proto.Message) (string, error) // the resource that it makes, or changes
	Makes   bool                                // makes its target; otherwise it changes one that is there
	Unit    string                              // of progress
	Check   func(proto.Message) error           // looks at the fields alone, in every process; its error is a fault; optional
	Plan    Planner                             // nil in a process that does not work on this kind: its workers plan then
}

// step of a pipeline that is submitted.
type step struct {
	at      string // its place in the request
	id      string
	kind    string
	of      StepKind
	request proto.Message
	payload []byte
	target  string
	options Options
	after   []*step
	maker   *step // of the target, where the step only changes it

	planned *Plan // by check

	fate runv1.PipelineStepFate
	run  *Run // nil when it is done without one
}

// stepsOf reads the steps of a request, in the order given. It reports every problem at once.
func (p Pipelines) stepsOf(q *runv1.SubmitPipelineRequest) ([]*step, error) {
	var c fault.Checks
	c.That(ood.ValidID(q.PipelineId), "pipeline_id", "%q; want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", q.PipelineId)
	c.That(len(q.Steps) >= 1 && len(q.Steps) <= maxSteps, "steps", "%d steps; want 1 to %d", len(q.Steps), maxSteps)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var steps []*step
	for i, s := range q.Steps {
		at := fmt.Sprintf("steps[%d]", i)
		read, err := p.read(at, s, q.PipelineId)
		if err != nil {
			addProblems(&c, at, s.Id, err)
			continue
		}
		for _, other := range steps {
			c.That(other.id != read.id, at+".id", "%q is there twice", read.id)
			c.That(other.target != read.target || !other.of.Makes || !read.of.Makes, at, "(%s) makes %s, and so does %s", read.id, read.target, other.id)
		}
		steps = append(steps, read)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	for i, s := range q.Steps {
		if err := connect(steps[i], steps, s.After); err != nil {
			c.Add(fmt.Sprintf("steps[%d].after", i), "(%s) %v", s.Id, err)
		}
	}
	return steps, c.Err()
}

// addProblems notes what is wrong with a step: each field of it that is at fault.
func addProblems(c *fault.Checks, at, id string, err error) {
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Violations) == 0 {
		c.Add(at, "(%s) %v", id, err)
		return
	}
	for _, v := range f.Violations {
		c.Add(at+"."+v.Field, "(%s) %s", id, v.Problem)
	}
}

// addFields notes the fields of a request that are at fault.
func addFields(c *fault.Checks, err error) {
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Violations) == 0 {
		c.Add("request_json", "%v", err)
		return
	}
	for _, v := range f.Violations {
		c.Add("request_json."+v.Field, "%s", v.Problem)
	}
}

// read reads one step, and tells everything that is wrong with it.
func (p Pipelines) read(at string, s *runv1.PipelineStep, pipeline string) (*step, error) {
	if !ood.ValidID(s.Id) {
		return nil, fmt.Errorf("id %q: want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", s.Id)
	}
	of, ok := p.Kinds[s.Kind]
	if !ok {
		return nil, fmt.Errorf("kind %q: want one of %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(p.Kinds)), ", "))
	}
	out := &step{at: at, id: s.Id, kind: s.Kind, of: of, request: of.Request(), options: OptionsOf(s.Options)}
	if err := protojson.Unmarshal([]byte(s.RequestJson), out.request); err != nil {
		return nil, fmt.Errorf("request_json: %w", err)
	}
	var c fault.Checks
	fields := out.request.ProtoReflect().Descriptor().Fields()
	for _, name := range []string{"request_id", "options"} {
		field := fields.ByTextName(name)
		c.That(field == nil || !out.request.ProtoReflect().Has(field), "request_json", "has %s, which is the pipeline's; leave it away", name)
	}
	c.That(len(out.options.After) == 0, "options.after", "a step waits for steps of its pipeline; use the step's own after")
	out.options.Labels = maps.Clone(out.options.Labels)
	if out.options.Labels == nil {
		out.options.Labels = map[string]string{}
	}
	out.options.Labels[labelPipeline], out.options.Labels[labelStep] = pipeline, s.Id
	if err := out.options.check(); err != nil {
		c.Add("options", "%v", err)
	}
	var err error
	if of.Check != nil {
		err = of.Check(out.request)
	}
	if err != nil {
		addFields(&c, err)
	} else if out.target, err = of.Target(out.request); err != nil {
		c.Add("request_json", "%v", err)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	out.payload, err = protojson.Marshal(out.request)
	return out, err
}

// connect finds the steps that one waits for: those that it names in after, and those whose resource its request
// names.
func connect(s *step, all []*step, after []string) error {
	for _, id := range after {
		i := slices.IndexFunc(all, func(other *step) bool { return other.id == id })
		if i < 0 {
			return fmt.Errorf("there is no step %q", id)
		}
		s.after = append(s.after, all[i])
	}
	named, err := s.names()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other == s || !other.of.Makes || !named[other.target] {
			continue
		}
		if !s.of.Makes && other.target == s.target {
			s.maker = other
		}
		if !slices.Contains(s.after, other) {
			s.after = append(s.after, other)
		}
	}
	return nil
}

// names are all strings in the request of a step: the resources that it names are among them.
func (s *step) names() (map[string]bool, error) {
	named := map[string]bool{}
	var request any
	err := json.Unmarshal(s.payload, &request)
	collect(request, named)
	return named, err
}

// collect notes every string in a piece of JSON.
func collect(value any, into map[string]bool) {
	switch v := value.(type) {
	case string:
		into[v] = true
	case []any:
		for _, item := range v {
			collect(item, into)
		}
	case map[string]any:
		for _, item := range v {
			collect(item, into)
		}
	}
}

// ordered puts steps behind those that they wait for, and otherwise leaves them as they are. Steps that wait for each
// other in a circle are InvalidArgument with the circle.
func ordered(steps []*step) ([]*step, error) {
	var out []*step
	placed := map[*step]bool{}
	for len(out) < len(steps) {
		before := len(out)
		for _, s := range steps {
			if !placed[s] && !slices.ContainsFunc(s.after, func(dep *step) bool { return !placed[dep] }) {
				out = append(out, s)
			}
		}
		for _, s := range out[before:] { // after the round, so that what can begin at once comes first
			placed[s] = true
		}
		if len(out) == before {
			return nil, fault.Invalid("steps", "wait for each other in a circle: %s", circle(steps, placed))
		}
	}
	return out, nil
}

// circle names steps that wait for each other; there is a circle among those that are not placed.
func circle(steps []*step, placed map[*step]bool) string {
	unplaced := func(s *step) bool { return !placed[s] }
	at := steps[slices.IndexFunc(steps, unplaced)]
	var path []*step
	for !slices.Contains(path, at) {
		path = append(path, at)
		at = at.after[slices.IndexFunc(at.after, unplaced)]
	}
	names := ""
	for _, s := range path[slices.Index(path, at):] {
		names += s.id + " waits for "
	}
	return names + at.id
}
