package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/npy"
)

// scoreFile writes scores as NumPy does.
func scoreFile(t *testing.T, dir, name string, values []float32, shape ...int) string {
	t.Helper()
	var b bytes.Buffer
	if err := npy.Write(&b, values, shape...); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMetricsOfFiles(t *testing.T) {
	dir := t.TempDir()
	id, ood := scoreFile(t, dir, "id.npy", []float32{1, 2, 3, 4}, 4), scoreFile(t, dir, "far.npy", []float32{-1, 0, 1.5, 0}, 4, 1)
	r := (&fake{}).typed(t, "metrics", "--id", id, "--ood", ood, "--ood", "again="+ood, "--output", "json")
	r.wants(t, exitOK)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var got struct {
		Name  string
		AUROC float64
		FPR   float64 `json:"fpr95_id_positive"`
		Other float64 `json:"fpr95_ood_positive"`
	}
	// 15 of 16 pairs are in order. All of ID is accepted from 1 on, and so is one of four OOD; all of OOD is refused up to
	// 1.5, and so is one of four ID.
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || got.Name != "far" || got.AUROC != 15.0/16 || got.FPR != 0.25 || got.Other != 0.25 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(lines[1]), &got); err != nil || got.Name != "again" {
		t.Errorf("%+v, %v", got, err)
	}
	turned := (&fake{}).typed(t, "metrics", "--id", id, "--ood", ood, "--higher", "ood", "--output", "json")
	turned.wants(t, exitOK)
	if err := json.Unmarshal([]byte(turned.out), &got); err != nil || got.AUROC != 1.0/16 {
		t.Errorf("turned: %+v, %v", got, err)
	}
	(&fake{}).typed(t, "metrics", "--id", id, "--ood", ood).wants(t, exitOK, "93.8 %", "FPR95, OOD POSITIVE")
}

func TestBadScoreFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	good := scoreFile(t, dir, "good.npy", []float32{1, 2}, 2)
	head := "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }            \n"
	double := append([]byte("\x93NUMPY\x01\x00"+string(rune(len(head)))+"\x00"+head), make([]byte, 16)...)
	for name, c := range map[string]struct {
		file string
		says string
	}{
		"a number that is none": {scoreFile(t, dir, "nan.npy", []float32{1, float32(math.NaN())}, 2), "score 1 is NaN"},
		"an infinite number":    {scoreFile(t, dir, "inf.npy", []float32{float32(math.Inf(1))}, 1), "+Inf"},
		"an empty file":         {scoreFile(t, dir, "empty.npy", nil, 0), "no OOD scores"},
		"two columns":           {scoreFile(t, dir, "two.npy", []float32{1, 2, 3, 4}, 2, 2), "one number per picture"},
		"no array":              {write(t, dir, "text.npy", []byte("0.1 0.2")), "text.npy"},
		"float64":               {write(t, dir, "double.npy", double), "astype"},
		"no file":               {filepath.Join(dir, "none.npy"), "none.npy"},
	} {
		r := (&fake{}).typed(t, "metrics", "--id", good, "--ood", c.file)
		if r.code == exitOK || !strings.Contains(r.errs, c.says) {
			t.Errorf("%s: exit code %d, %s", name, r.code, r.errs)
		}
	}
	for _, args := range [][]string{{}, {"--id", good}, {"--ood", good}, {dir, "--id", good, "--ood", good}} {
		(&fake{}).typed(t, append([]string{"metrics"}, args...)...).wants(t, exitUsage)
	}
	(&fake{}).typed(t, "metrics", dir).wants(t, exitFailed, "no measurement is there")
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
