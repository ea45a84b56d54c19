package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// TestWebDatasetReadsShards has the Python package read an export. DREAMOOD_WEBDATASET names the Python that has it
// (make webdataset).
func TestWebDatasetReadsShards(t *testing.T) {
	python := os.Getenv("DREAMOOD_WEBDATASET")
	if python == "" {
		t.Skip("needs the Python package webdataset: make webdataset")
	}
	dir := t.TempDir()
	var set []*generatorv1.Picture
	for i := range 50 {
		class := []string{"cat", "müßige Fliege", "pickup.truck 4x4"}[i%3]
		set = append(set, picture(fmt.Sprintf("%s/%06d.png", class, i), class, dot(t, uint8(5*i), uint8(i))))
	}
	(&fake{set: set}).typed(t, "sets", "export", "demo", "--out", dir, "--format", "webdataset", "--shard-size", "17").wants(t, exitOK, "50 pictures")
	out, err := exec.Command(python, "../../tools/webdataset/check.py", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
