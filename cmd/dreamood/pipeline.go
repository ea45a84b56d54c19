package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// PipelineCmd groups the commands on pipelines.
type PipelineCmd struct {
	Run  PipelineRunCmd  `cmd:"" help:"Do what is missing of a pipeline."`
	Show PipelineShowCmd `cmd:"" help:"Show the runs of a pipeline, step by step."`
}

// PipelineRunCmd submits a pipeline.
type PipelineRunCmd struct {
	File string `arg:"" name:"file" field:"steps" help:"The pipeline, a YAML file; - reads it from standard input."`
	Wait bool   `default:"true" negatable:"detach" help:"Follow its runs to their ends, the default; --detach only submits them."`
}

// Help teaches the command.
func (PipelineRunCmd) Help() string {
	return `A pipeline is a YAML file with a name and steps. Each step has an id and one request, with the fields of the API
(docs/api.md): space, embeddings, set, detector or evaluation. Beside it: after, priority, labels, time_limit.

  name: nightly
  steps:
  - id: space
    space: {space_id: nightly, dataset: data/train, training: {epochs: 12}}
  - id: outliers
    set: {set_id: nightly, space: nightly, per_class: 100}
  - id: detector
    detector: {detector_id: nightly, set: nightly, dataset: data/train, test_dataset: data/test}
  - id: places
    evaluation: {name: nightly, test_dataset: data/test, ood_datasets: [{name: places, path: data/places}]}
    time_limit: 30m

    dreamood pipeline run nightly.yaml
    dreamood pipeline run nightly.yaml --detach

A step waits for those that make what its request names, and for those in after. Run again, only what is missing is
done: what is there stays, what is under way is followed, what failed goes on from what it had done. Relative datasets
are looked for beside the file. Unknown fields are refused, with their line.`
}

// Run submits the pipeline and follows it.
func (c *PipelineRunCmd) Run(ctx context.Context, s *Session) error {
	q, err := readPipeline(c.File)
	if err != nil {
		return err
	}
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	got, err := runs.SubmitPipeline(ctx, q)
	if err != nil {
		return err
	}
	var t table
	t.row("STEP", "TARGET", "WHAT", "RUN", "AFTER")
	var open []string
	steps := map[string]string{} // by run
	for _, step := range got.GetSteps() {
		steps[step.GetRun().GetName()] = step.GetId()
	}
	for _, step := range got.GetSteps() {
		run := step.GetRun()
		if run != nil && !final(run) {
			open = append(open, run.GetName())
		}
		if s.json() {
			if err := s.object(step); err != nil {
				return err
			}
			continue
		}
		var after []string
		for _, name := range run.GetWaitingFor() {
			after = append(after, or(steps[name], name))
		}
		t.row(step.GetId(), or(run.GetTarget(), "-"), fateOf(step), or(idOf(run), "-"), or(strings.Join(after, ", "), "-"))
	}
	if !s.json() {
		t.print(s.Out)
	}
	return c.follow(ctx, s, q.GetPipelineId(), open)
}

// follow sees the runs of a pipeline through.
func (c *PipelineRunCmd) follow(ctx context.Context, s *Session, pipeline string, open []string) error {
	show := s.command("dreamood pipeline show " + pipeline)
	if len(open) == 0 {
		s.hint("nothing is missing")
		return nil
	}
	if !c.Wait {
		s.hint("under way; look at it: %s", show)
		return nil
	}
	var each func(*runv1.WatchRunResponse) error
	if s.json() {
		each = func(event *runv1.WatchRunResponse) error { return s.object(event) }
	}
	return s.watchAll(ctx, open, each)
}

// fateOf is what became of a step, in words.
func fateOf(step *runv1.PipelineStepRun) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(step.GetFate().String(), "PIPELINE_STEP_FATE_")), "_", " ")
}

// mostPipeline bounds a pipeline file in bytes.
const mostPipeline = 1 << 20

// readPipeline reads a file, or standard input.
func readPipeline(path string) (*runv1.SubmitPipelineRequest, error) {
	f := &pipelineFile{name: path}
	in := os.Stdin
	var err error
	if path == "-" {
		f.name = "standard input"
		f.dir, err = os.Getwd()
	} else {
		f.dir, err = filepath.Abs(filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	if path != "-" {
		if in, err = os.Open(path); err != nil {
			return nil, usage("read the pipeline: %w", err)
		}
		defer in.Close()
	}
	data, err := io.ReadAll(io.LimitReader(in, mostPipeline+1))
	if err != nil {
		return nil, usage("read the pipeline: %w", err)
	}
	if len(data) > mostPipeline {
		return nil, usage("%s is larger than %s", f.name, size(mostPipeline))
	}
	return f.read(data)
}

// PipelineShowCmd shows the runs of a pipeline.
type PipelineShowCmd struct {
	Name string `arg:"" name:"pipeline" help:"Its name, as the file says."`
}

// Help teaches the command.
func (PipelineShowCmd) Help() string {
	return `Shows the newest run of each step. What a step found already there has no run.

    dreamood pipeline show nightly
    dreamood runs list --label pipeline=nightly
    dreamood runs watch --label pipeline=nightly`
}

// Run shows the runs.
func (c *PipelineShowCmd) Run(ctx context.Context, s *Session) error {
	if !ood.ValidID(c.Name) {
		return usage("%q is no name of a pipeline: want 1 to 63 of a-z 0-9 - _", c.Name)
	}
	list, err := s.selectRuns(ctx, Selection{Label: []string{"pipeline=" + c.Name}}, 0)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &exitError{exitFailed, fmt.Errorf("no run carries the label pipeline=%s; `%s` names the runs that there are", c.Name, s.command("dreamood runs list"))}
	}
	steps := map[string]string{} // by id of a run
	var newest []*runv1.Run
	for _, run := range list { // the newest first
		step := run.GetOptions().GetLabels()["step"]
		if steps[run.GetName()] = step; !slices.ContainsFunc(newest, func(r *runv1.Run) bool { return r.GetOptions().GetLabels()["step"] == step }) {
			newest = append(newest, run)
		}
	}
	slices.Reverse(newest)
	var t table
	t.row("STEP", "TARGET", "STATE", "PROGRESS", "AGE", "WAITS FOR", "RUN")
	for _, run := range newest {
		if s.json() {
			if err := s.object(run); err != nil {
				return err
			}
			continue
		}
		waits := waitsFor(run)
		if before := run.GetWaitingFor(); len(before) > 0 {
			waits = or(steps[before[0]], waits)
		}
		t.row(run.GetOptions().GetLabels()["step"], run.GetTarget(), stateOf(run), amount(run), age(run.GetCreateTime()), waits, idOf(run))
	}
	if !s.json() {
		t.print(s.Out)
	}
	return nil
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is not above 0", text)
	}
	return d, err
}

// decoded reads a node into a Go value.
func decoded(node *yaml.Node, into any) error { return target(node).Decode(into) }

// namesOf are the fields of a request that a file may set.
func namesOf(fields protoreflect.FieldDescriptors) (names []string) {
	for i := range fields.Len() {
		if name := fields.Get(i).TextName(); name != "request_id" && name != "options" {
			names = append(names, name)
		}
	}
	return names
}
