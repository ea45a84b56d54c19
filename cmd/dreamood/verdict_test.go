package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/evaluation"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// measured is a small measurement: every score of ID lies gap above that of OOD, but for the last of 40.
func measured(t *testing.T, gap float32) *evaluation.Measured {
	t.Helper()
	set := func(name string, from float32, labelled bool) evaluation.Set {
		s := evaluation.Set{Name: name, Scores: map[string][]float32{"energy": nil}}
		for i := range 40 {
			s.Scores["energy"] = append(s.Scores["energy"], from+float32(i%7)/10)
			s.Files, s.Predicted, s.Confidence = append(s.Files, fmt.Sprint(i)), append(s.Predicted, i%2), append(s.Confidence, 1)
			if labelled {
				s.Labels = append(s.Labels, i%2)
			}
		}
		return s
	}
	return &evaluation.Measured{
		Detector: evaluation.Detector{Name: "detectors/d@2", Classes: []string{"a", "b"}, Score: "energy", Threshold: 1, Scores: []string{"energy"}},
		ID:       set("test", 1, true), OOD: []evaluation.Set{set("svhn", 1-gap, false)},
	}
}

func archive(t *testing.T, m *evaluation.Measured) []byte {
	t.Helper()
	s, err := m.Summarise(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Archive(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// DownloadMeasurements streams the archive of a name.
func (f *fake) DownloadMeasurements(q *trainerv1.DownloadMeasurementsRequest, stream trainerv1.TrainerService_DownloadMeasurementsServer) error {
	for piece := f.archives[q.Name]; len(piece) > 0; {
		n := min(1000, len(piece))
		if err := stream.Send(&trainerv1.DownloadMeasurementsResponse{Data: piece[:n]}); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

// TestConditionsSetTheExitCode of a training: 5 when one holds, 0 when none does, 2 before any work when they make no
// sense.
func TestConditionsSetTheExitCode(t *testing.T) {
	dir := t.TempDir()
	junit, page := filepath.Join(dir, "out", "junit.xml"), filepath.Join(dir, "report.html")
	f := trained("the model")
	f.detector.Version = 2
	f.archives = map[string][]byte{"detectors/d@2": archive(t, measured(t, 0.5)), "detectors/d@1": archive(t, measured(t, 2))}
	train := []string{"train", "d", "--dataset", "x", "--test", "y", "--new-version"}
	with := func(more ...string) result { return f.typed(t, append(train, more...)...) }
	with("--fail-if", "fpr95>0.1", "--fail-if", "accuracy<0.9", "--junit", junit, "--report", page, "--baseline", "d@1").wants(t, exitRefused,
		"FAILED: fpr95>0.1", "passed: accuracy<0.9", "detectors/d@2 is refused: 1 of 2 conditions hold")
	if !f.train.NewVersion {
		t.Error("the new version was not asked for")
	}
	for file, says := range map[string]string{junit: `failures="1"`, page: "Refused: 1 of 2 conditions hold"} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), says) {
			t.Errorf("%s does not say %q, %v", file, says, err)
		}
	}
	with("--fail-if", "fpr95>0.9").wants(t, exitOK, "passed: fpr95>0.9")
	with("--fail-if", "fpr95>baseline+0.01", "--baseline", "detectors/d@1").wants(t, exitRefused, "significant")
	f.train = nil
	with("--fail-if", "fpr95>>1").wants(t, exitUsage, "no condition")
	with("--fail-if", "fpr95>baseline").wants(t, exitUsage, "--baseline")
	with("--fail-if", "fpr95>0.1", "--detach").wants(t, exitUsage, "--detach")
	with("--beta", "0").wants(t, exitUsage, "--beta 0")
	with("--beta=-1").wants(t, exitUsage, "--beta -1")
	with("--seeds", "1,2", "--fail-if", "fpr95>0.1").wants(t, exitUsage, "--seeds")
	if f.train != nil {
		t.Error("a training was started for a command that cannot work")
	}
	with("--fail-if", "fpr95[textures]>0.1").wants(t, exitUsage, "textures", "svhn")
}

func TestBaselineMayBeAFolder(t *testing.T) {
	dir := t.TempDir()
	z, err := zip.NewReader(bytes.NewReader(archive(t, measured(t, 2))), int64(len(archive(t, measured(t, 2)))))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	f := &fake{archives: map[string][]byte{"detectors/d@7": archive(t, measured(t, 0.5))}}
	f.typed(t, "detector", "check", "d@7", "--fail-if", "auroc<baseline", "--baseline", dir, "--output", "json").wants(t, exitRefused, `"fails":true`)
	f.typed(t, "detector", "check", "d@7", "--fail-if", "auroc<baseline", "--baseline", t.TempDir()).wants(t, exitFailed, "no measurement is there")
	f.typed(t, "detector", "check", "d@7").wants(t, exitUsage, "nothing to do")
	f.typed(t, "metrics", dir, dir).wants(t, exitOK, "100.0 ± 0.0", "over 2 trainings")
}

func TestScoreTellsItsTwoUsesApart(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--id", "x"}, "--detector"},
		{[]string{"--detector", "d.onnx", "--id", "x"}, "--out"},
		{[]string{"d", "p.png", "--id", "x", "--detector", "d.onnx", "--out", "o"}, "leave the pictures away"},
		{[]string{"d"}, "name a detector and pictures"},
		{[]string{"d", "p.png", "--ood", "a=b"}, "--id and --out"},
		{[]string{"--detector", "d.onnx", "--id", "x", "--out", "o", "--ood", "all=b"}, `"all" cannot name`},
		{[]string{"--detector", "d.onnx", "--id", "x", "--out", "o", "--fail-if", "x"}, "no condition"},
		{[]string{"--detector", "No File", "--id", "x", "--out", "o"}, "neither a file nor the name"},
		{[]string{"d@", "p.png"}, "behind the @"},
	} {
		(&fake{}).typed(t, append([]string{"score"}, c.args...)...).wants(t, exitUsage, c.says)
	}
}
