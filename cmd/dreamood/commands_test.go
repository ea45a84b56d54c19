package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func TestViolationsNameTheFlags(t *testing.T) {
	var c fault.Checks
	c.Add("training.epochs", "is 9000; at most 1000")
	c.Add("ood_datasets[1].path", "nowhere: no such folder; give one that is there")
	c.Add("detector_id", "is taken")
	c.Add("something_new", "is odd")
	f := &fake{submit: c.Err()}
	r := f.typed(t, "train", "d", "--dataset", "x", "--test", "y", "--epochs", "9000", "--ood", "a=b", "--ood", "c=d")
	r.wants(t, exitUsage, "  --epochs: is 9000; at most 1000\n", "  --ood: nowhere: no such folder", "  <detector>: is taken\n", "  something_new: is odd\n")
	if r.out != "" {
		t.Fatalf("stdout %q", r.out)
	}
}

func TestPathsAreSentAbsoluteAndPairsInOrder(t *testing.T) {
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, runIn(runv1.RunState_RUN_STATE_CANCELLED, 0))}}
	f.typed(t, "train", "d", "--dataset", "x", "--test", "/abs/y", "--ood", "zoo=p,q;r", "--ood", "art=/a", "--set", "s", "--lr", "0.05").wants(t, exitCancelled)
	here, _ := os.Getwd()
	q := f.train
	if q.Dataset != filepath.Join(here, "x") || q.TestDataset != "/abs/y" || q.Set != "sets/s" || q.Training.LearningRate != 0.05 {
		t.Fatalf("sent %v", q)
	}
	if len(q.OodDatasets) != 2 || q.OodDatasets[0].Name != "zoo" || q.OodDatasets[0].Path != filepath.Join(here, "p,q;r") || q.OodDatasets[1].Name != "art" {
		t.Fatalf("OOD datasets %v", q.OodDatasets)
	}
	f.typed(t, "space", "train", "s", "--dataset", "x", "--word", "german shepherd=dog", "--word", "t=u").wants(t, exitCancelled)
	if len(f.space.Words) != 2 || f.space.Words["german shepherd"] != "dog" || f.space.SpaceId != "s" {
		t.Fatalf("sent %v", f.space)
	}
	f.typed(t, "space", "train", "s", "--dataset", "x", "--word", "nonsense").wants(t, exitUsage, "KEY=VALUE")
	f.typed(t, "space", "train", "Not An Id", "--dataset", "x").wants(t, exitUsage, `"Not An Id"`)
}

func trained(model string) *fake {
	sum := sha256.Sum256([]byte(model))
	return &fake{
		streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, succeeded())},
		model:   []byte(model),
		detector: &trainerv1.Detector{
			Name: "detectors/d", Model: "sha256:" + hex.EncodeToString(sum[:]), Classes: []string{"cat", "dog"},
			Evaluation: &trainerv1.Evaluation{IdAccuracy: 0.913, IdCount: 200, Ood: []*trainerv1.OODResult{
				{Name: "svhn", Count: 100, Fpr95: 0.3125, Auroc: 0.94, AuprIn: 0.88, AuprOut: 0.71, Fpr95OodPositive: 0.5}}},
		},
	}
}

func TestTrainPrintsTheTableAndWritesFiles(t *testing.T) {
	dir := t.TempDir()
	model, metrics := filepath.Join(dir, "new", "d.onnx"), filepath.Join(dir, "m.json")
	f := trained("the model")
	r := f.typed(t, "train", "d", "--dataset", "x", "--test", "y", "--onnx", model, "--metrics", metrics)
	r.wants(t, exitOK, "91.3 %", "svhn", "31.2 %", "94.0 %", "88.0 %", "71.0 %", model)
	if data, err := os.ReadFile(model); err != nil || string(data) != "the model" {
		t.Fatalf("%q, %v", data, err)
	}
	raw, err := os.ReadFile(metrics)
	var d trainerv1.Detector
	if err == nil {
		err = protojson.Unmarshal(raw, &d)
	}
	if err != nil || d.Evaluation.Ood[0].Fpr95 != 0.3125 {
		t.Fatalf("metrics: %v, %s", err, raw)
	}
	r = f.typed(t, "train", "d", "--dataset", "x", "--test", "y", "--output", "json")
	r.wants(t, exitOK)
	if lines := strings.Split(strings.TrimSpace(r.out), "\n"); len(lines) != 2 || !json.Valid([]byte(lines[0])) || !strings.Contains(lines[1], `"fpr95":0.3125`) {
		t.Fatalf("want the run and the detector:\n%s", r.out)
	}
}

func TestDownloadRefusesADamagedModel(t *testing.T) {
	f := trained("the model")
	f.model = []byte("tampered")
	dir := t.TempDir()
	f.typed(t, "detector", "download", "d", "--out", filepath.Join(dir, "d.onnx")).wants(t, exitFailed, "damaged")
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Fatalf("left behind: %v", entries)
	}
}

func pictureFiles(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("p%03d.png", i)), fmt.Appendf(nil, "class%d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestScoreSendsBatchesAndKeepsTheOrder(t *testing.T) {
	dir := pictureFiles(t, 150)
	os.WriteFile(filepath.Join(dir, "readme.txt"), []byte("no picture"), 0o644)
	f := &fake{outside: map[string]bool{"class149": true}}
	r := f.typed(t, "score", "d", dir, "--output", "json", "--fail-on-ood")
	r.wants(t, exitOOD, "1 of 150 pictures are out of distribution")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 150 || !slices.Equal(f.batches, []int{64, 64, 22}) {
		t.Fatalf("%d lines, batches %v", len(lines), f.batches)
	}
	for i, line := range lines {
		var got struct {
			File, Class       string
			OutOfDistribution *bool
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.File != filepath.Join(dir, fmt.Sprintf("p%03d.png", i)) ||
			got.Class != fmt.Sprintf("class%d", i) || got.OutOfDistribution == nil || *got.OutOfDistribution != (i == 149) {
			t.Fatalf("line %d: %s, %v", i, line, err)
		}
	}
	f.typed(t, "score", "d", dir).wants(t, exitOK, "FILE", "class149", "OUT")
}

func TestScoreNamesTheFileAtFault(t *testing.T) {
	dir := pictureFiles(t, 3)
	bad := filepath.Join(dir, "p001.png")
	os.WriteFile(bad, []byte("broken"), 0o644)
	(&fake{}).typed(t, "score", "d", dir).wants(t, exitUsage, "  "+bad+": is no picture")
	(&fake{}).typed(t, "score", "d", filepath.Join(dir, "none.png")).wants(t, exitUsage, "none.png")
	(&fake{}).typed(t, "score", "d", t.TempDir()).wants(t, exitUsage, "holds no picture")
	if err := os.Truncate(bad, maxPictureBytes+1); err != nil {
		t.Fatal(err)
	}
	(&fake{}).typed(t, "score", "d", bad).wants(t, exitUsage, bad, "at most 16.0 MiB")
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"imagin"}, `did you mean "imagine"`},
		{[]string{"imagine", "x"}, "--per-class"},
		{[]string{"imagine", "x", "--space", "s", "--per-class", "3", "--detach", "--export", "d"}, "--export needs to wait"},
		{[]string{"runs", "list", "--state", "happy"}, "--state"},
		{[]string{"version", "--output", "xml"}, "--output"},
	} {
		(&fake{}).typed(t, c.args...).wants(t, exitUsage, c.text, "--help`")
	}
	(&fake{}).typed(t).wants(t, exitOK, "The path, from pictures to a detector")
	(&fake{}).typed(t, "version", "--output", "json").wants(t, exitOK, `"version":"dev"`)
}

func TestUnknownServiceIsExplained(t *testing.T) {
	s := &Session{Globals: Globals{Server: "h:1"}}
	f := &fault.Error{Reason: fault.Internal, Message: "unknown service dreamood.embedder.v1.EmbedderService"}
	if got := s.remedy(f); !strings.Contains(got, "h:1 does not run this role") {
		t.Fatal(got)
	}
}
