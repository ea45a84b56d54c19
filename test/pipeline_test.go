package test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// TestPipelineOfTheRealMesh submits space, set, two detectors and an evaluation at once, to the real roles.
func TestPipelineOfTheRealMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for a minute")
	}
	m := startOne(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	runs := runv1.NewRunServiceClient(m.trainer)
	quote := func(path string) string {
		text, err := json.Marshal(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	detector := func(id, set string) string {
		return `{"detector_id": "` + id + `", "set": "` + set + `", "dataset": ` + quote(m.training) + `, "test_dataset": ` + quote(sample(t, "cifar10_test.zip")) +
			`, "training": {"epochs": 1, "width": 8, "batch_size": 32, "outlier_batch_size": 16}}`
	}
	q := &runv1.SubmitPipelineRequest{PipelineId: "real", Steps: []*runv1.PipelineStep{
		{Id: "near", Kind: "evaluate-detector", RequestJson: `{"name": "detectors/careful", "test_dataset": ` + quote(sample(t, "cifar10_test.zip")) +
			`, "ood_datasets": [{"name": "textures", "path": ` + quote(sample(t, "ood_textures.zip")) + `}]}`},
		{Id: "careful", Kind: "train-detector", RequestJson: detector("careful", "sets/real")},
		{Id: "plain", Kind: "train-detector", RequestJson: detector("plain", "")},
		{Id: "set", Kind: "render-set", RequestJson: `{"set_id": "real", "space": "spaces/real", "per_class": 2, "rendering": {"steps": 2}}`},
		{Id: "space", Kind: "train-space", RequestJson: `{"space_id": "real", "dataset": ` + quote(m.training) +
			`, "training": {"epochs": 1, "width": 8, "bank_per_class": 80, "batch_size": 32}}`},
	}}
	submit := func(want string) {
		t.Helper()
		got, err := runs.SubmitPipeline(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		fates := ""
		for _, s := range got.Steps {
			fates += s.Id + ":" + strings.ToLower(strings.TrimPrefix(s.Fate.String(), "PIPELINE_STEP_FATE_")) + " "
		}
		if fates != want {
			t.Fatalf("submitted %s\nwant      %s", fates, want)
		}
		for _, s := range got.Steps {
			succeed(ctx, t, m.trainer, s.Run)
		}
	}
	submit("plain:submitted space:submitted set:submitted careful:submitted near:submitted ")
	submit("plain:done space:done set:done careful:done near:done ")
	if _, err := generatorv1.NewGeneratorServiceClient(m.generator).DeleteSet(ctx, &generatorv1.DeleteSetRequest{Name: "sets/real"}); err != nil {
		t.Fatal(err)
	}
	submit("plain:done space:done set:submitted careful:done near:done ")
}
