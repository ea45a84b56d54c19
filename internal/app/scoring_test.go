package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/score/method"
	"github.com/dreamood/dreamood/internal/train"
)

const pictures = "../../sample"

// detectorFile is a small untrained detector of CIFAR-10's classes with all scores, as the trainer exports one.
func detectorFile(t *testing.T) []byte {
	t.Helper()
	ds, err := dataset.Open(t.Context(), filepath.Join(pictures, "cifar10_train.tar.gz"), dataset.Options{PerClass: 20})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := train.New(train.Spec{Network: train.ResNet9(4), Head: train.Classifier{N: 10, Scale: 0.125}, Batch: 2, Seed: 1}, train.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	bare, err := tr.Inference(map[string]string{"dreamood.kind": "detector", "dreamood.classes": strings.Join(ds.Classes, ","), "dreamood.method": "plain"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := infer.Open(bare, onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r, err := m.Dataset(t.Context(), ds, nil, "features")
	if err != nil {
		t.Fatal(err)
	}
	features, err := matrix.Of(r["features"], len(r["features"])/ds.Len())
	if err != nil {
		t.Fatal(err)
	}
	labels := make([]int, ds.Len())
	for i, y := range ds.Labels {
		labels[i] = int(y)
	}
	fitted, err := method.Extend(bare, features, labels, method.Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{"dreamood.score": "energy"}
	for _, name := range fitted.Scores {
		said["dreamood.threshold."+name] = "0.5"
	}
	model, err := method.Describe(fitted.Model, said)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

// TestScoringByHand measures a detector's file on real pictures, keeps it in a folder and reads it back.
func TestScoringByHand(t *testing.T) {
	s := Scoring{
		Name: "d.onnx", Model: detectorFile(t), ID: filepath.Join(pictures, "cifar10_test.zip"), Features: true, Score: "knn", ONNX: onnx.Config{Threads: 1},
		OOD: []Pictures{{"textures", evaluation.Far, filepath.Join(pictures, "ood_textures.zip")}}, Shifted: []Pictures{{"same", "", filepath.Join(pictures, "cifar10_test.zip")}},
	}
	m, sum, err := s.Run(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if sum.ID.Count != 500 || sum.OOD[0].Metrics.OOD != 200 || sum.Detector.Score != "knn" || sum.Detector.Threshold != 0.5 || len(sum.Detector.Scores) != 14 {
		t.Errorf("%+v", sum.Detector)
	}
	if sum.ShiftedAccuracy != sum.ID.Accuracy || sum.Averages[1].Group != evaluation.Far {
		t.Errorf("the test set as a shifted one: %g and %g, averages %+v", sum.ShiftedAccuracy, sum.ID.Accuracy, sum.Averages)
	}
	if len(m.ID.Features) != 500*32 || len(m.ID.Mistakes) != 12 || !strings.HasPrefix(string(m.ID.Mistakes[0].PNG), "\x89PNG") {
		t.Errorf("%d feature values, %d mistakes", len(m.ID.Features), len(m.ID.Mistakes))
	}
	dir := t.TempDir()
	err = m.Write(sum, func(name string, data []byte) error {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	back, err := evaluation.Read(os.DirFS(dir))
	if err != nil || !slices.Equal(back.OOD[0].Scores["vim"], m.OOD[0].Scores["vim"]) {
		t.Errorf("read back: %v", err)
	}
}

func TestScoringNamesWhatIsWrong(t *testing.T) {
	good := detectorFile(t)
	decoder, err := os.ReadFile("../diffusion/testdata/tiny/vae_decoder/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	unnamed, err := method.Describe(good, map[string]string{"dreamood.kind": "space"})
	if err != nil {
		t.Fatal(err)
	}
	id, textures := filepath.Join(pictures, "cifar10_test.zip"), filepath.Join(pictures, "ood_textures.zip")
	for name, c := range map[string]struct {
		s    Scoring
		says []string
	}{
		"no model":        {Scoring{Model: []byte("hello"), ID: id}, []string{"dreamood detector download"}},
		"another network": {Scoring{Model: decoder, ID: id}, []string{"want one float32 \"image\""}},
		"no detector":     {Scoring{Model: unnamed, ID: id}, []string{"is no detector"}},
		"unknown score":   {Scoring{Model: good, ID: id, Score: "head"}, []string{`no score "head"`, "energy"}},
		"other classes and a path that is none": {Scoring{Model: good, ID: textures, OOD: []Pictures{{"x", "", "/none"}}},
			[]string{"the detector was trained on [airplane", "OOD set x"}},
		"a set twice": {Scoring{Model: good, ID: id, OOD: []Pictures{{"x", "", textures}, {"x", "", textures}}}, []string{"x is there twice"}},
	} {
		c.s.ONNX = onnx.Config{Threads: 1}
		_, _, err := c.s.Run(t.Context(), func(string) {})
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", name, err, says)
			}
		}
	}
}
