package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const nightly = `
name: nightly
steps:
- id: space
  space:
    space_id: nightly
    dataset: train
    words: {german shepherd: dog}
    training: {epochs: 3, learning_rate: 1e-1, seed: 18446744073709551615}
- id: outliers
  set: &set {set_id: 7, space: nightly, per_class: 8, classes: [cat, dog], source: SOURCE_WORDS}
  priority: high
  labels: {team: vision}
  time_limit: 90m
- id: detector
  after: [space]
  detector:
    detector_id: d
    set: "7"
    dataset: /abs/train
    test_dataset: test
    ood_datasets:
    - {name: zoo, path: zoo.zip}
- id: evaluation
  evaluation: {name: d, test_dataset: test, ood_datasets: [{name: art, path: art}]}
`

func writePipeline(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPipelineFileBecomesRequests(t *testing.T) {
	file := writePipeline(t, nightly)
	q, err := readPipeline(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	if q.PipelineId != "nightly" || len(q.Steps) != 4 {
		t.Fatalf("read %v", q)
	}
	kinds := ""
	for _, s := range q.Steps {
		kinds += s.Kind + " "
	}
	if kinds != "train-space render-set train-detector evaluate-detector " {
		t.Errorf("kinds %s", kinds)
	}
	var space struct {
		Dataset  string
		Words    map[string]string
		Training struct {
			Epochs       int
			LearningRate float64
			Seed         string
		}
	}
	if err := json.Unmarshal([]byte(q.Steps[0].RequestJson), &space); err != nil || space.Dataset != filepath.Join(dir, "train") || space.Training.Epochs != 3 ||
		space.Training.LearningRate != 0.1 || space.Training.Seed != "18446744073709551615" || space.Words["german shepherd"] != "dog" {
		t.Errorf("space %+v, %v", space, err)
	}
	if s := q.Steps[1]; !strings.Contains(strings.ReplaceAll(s.RequestJson, " ", ""), `"setId":"7","space":"spaces/nightly","classes":["cat","dog"],"perClass":8,"source":"SOURCE_WORDS"`) ||
		s.Options.Priority != runv1.Priority_PRIORITY_HIGH || s.Options.Labels["team"] != "vision" || s.Options.TimeLimit.AsDuration().Minutes() != 90 {
		t.Errorf("set %v", s)
	}
	var d trainerv1.TrainDetectorRequest
	if err := protojson.Unmarshal([]byte(q.Steps[2].RequestJson), &d); err != nil || d.Set != "sets/7" || d.Dataset != "/abs/train" ||
		d.TestDataset != filepath.Join(dir, "test") || d.OodDatasets[0].Path != filepath.Join(dir, "zoo.zip") || q.Steps[2].After[0] != "space" {
		t.Errorf("detector %v, %v", &d, err)
	}
	if !strings.Contains(q.Steps[3].RequestJson, `"detectors/d"`) {
		t.Errorf("evaluation %s", q.Steps[3].RequestJson)
	}
}

func TestPipelineFileTellsEveryProblemWithItsLine(t *testing.T) {
	file := writePipeline(t, `name: p
retries: 3
steps:
- id: a
  space: {space_id: a, dataset: d, training: {epochz: 3}}
  priority: urgent
- id: b
  set: {set_id: b, space: a, per_class: many, request_id: x}
  sett: 1
- id: c
  id: d
  time_limit: soon
- detector: {ood_datasets: {name: x}}
  evaluation: {}
`)
	r := (&fake{}).typed(t, "pipeline", "run", file)
	r.wants(t, exitUsage)
	for _, want := range []string{
		":2: retries: a pipeline has no such field", ":5: epochz: space.training has no such field; it has epochs", ":6: priority: \"urgent\"",
		":8: set.per_class: many does not fit; want a whole number", ":8: request_id: set has no such field", ":9: sett: a step has no such field",
		":11: id: is there twice", ":12: time_limit: \"soon\"", ":10: step d does nothing", ":13: detector.ood_datasets: want a list",
		":14: evaluation: the step is a train-detector already", ":13: id: is missing",
	} {
		if !strings.Contains(r.errs, file+want) {
			t.Errorf("%q is not in\n%s", want, r.errs)
		}
	}
	for text, want := range map[string]string{"": "is empty", "- a": "want fields", "name: [": "yaml", "steps: []": "name: is missing"} {
		(&fake{}).typed(t, "pipeline", "run", writePipeline(t, text)).wants(t, exitUsage, want)
	}
	(&fake{}).typed(t, "pipeline", "run", "nowhere.yaml").wants(t, exitUsage, "nowhere.yaml")
}

func (f *fake) SubmitPipeline(_ context.Context, q *runv1.SubmitPipelineRequest) (*runv1.SubmitPipelineResponse, error) {
	f.pipeline = q
	waits := &runv1.Run{Name: "runs/r2", Target: "sets/7", State: pending, WaitingFor: []string{"runs/r1"}}
	return &runv1.SubmitPipelineResponse{Steps: []*runv1.PipelineStepRun{
		{Id: "space", Run: runIn(running, 1), Fate: runv1.PipelineStepFate_PIPELINE_STEP_FATE_UNDER_WAY},
		{Id: "outliers", Run: waits, Fate: runv1.PipelineStepFate_PIPELINE_STEP_FATE_SUBMITTED},
		{Id: "detector", Fate: runv1.PipelineStepFate_PIPELINE_STEP_FATE_DONE},
	}}, f.submit
}

func TestPipelineRunFollowsWhatIsOpen(t *testing.T) {
	ended := runIn(runv1.RunState_RUN_STATE_SUCCEEDED, 4)
	ended.Name, ended.Result = "runs/r2", "sets/7"
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, succeeded()), events(1, nil, ended)}}
	r := f.typed(t, "pipeline", "run", writePipeline(t, nightly))
	r.wants(t, exitOK, "under way", "submitted", "done", "runs/r1 succeeded", "runs/r2 succeeded")
	if len(f.watched) != 2 || len(f.pipeline.Steps) != 4 {
		t.Fatalf("watched %v of %v", f.watched, f.pipeline)
	}
	for _, line := range strings.Split(r.out, "\n") {
		if strings.HasPrefix(line, "outliers") && !strings.HasSuffix(line, "space") {
			t.Errorf("%q does not say that it waits for the step space", line)
		}
	}
	f = &fake{}
	f.typed(t, "pipeline", "run", "--detach", writePipeline(t, nightly)).wants(t, exitOK, "dreamood pipeline show nightly")
	if f.watched != nil {
		t.Error("it was followed")
	}
}

func TestPipelineShowTakesTheNewestRunOfEachStep(t *testing.T) {
	run := runIn(running, 2)
	run.Options = &runv1.RunOptions{Labels: map[string]string{"pipeline": "nightly", "step": "outliers"}}
	f := &fake{ended: run}
	r := f.typed(t, "pipeline", "show", "nightly")
	r.wants(t, exitOK, "outliers", "2/4 pictures")
	if n := strings.Count(r.out, "outliers"); n != 1 || f.listed.Labels["pipeline"] != "nightly" {
		t.Errorf("%d lines of one step; asked for %v\n%s", n, f.listed, r.out)
	}
	f.typed(t, "pipeline", "show", "No Name").wants(t, exitUsage)
}
