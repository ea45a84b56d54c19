package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// model writes a model with all parts to dir.
func model(t *testing.T, dir string) {
	t.Helper()
	for _, part := range append([]string{"model_index.json"}, parts...) {
		path := filepath.Join(dir, filepath.FromSlash(part))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDoctorNamesWhatIsMissingInAModel(t *testing.T) {
	models := t.TempDir()
	if f := checkModels(models); len(f) != 1 || f[0].Grade != missing || !strings.Contains(f[0].Remedy, "--models") {
		t.Fatalf("%+v", f)
	}
	broken := filepath.Join(models, "broken")
	model(t, broken)
	if f := checkModels(models); f[0].Grade != good {
		t.Fatalf("%+v", f)
	}
	os.Remove(filepath.Join(broken, "unet", "model.onnx"))
	os.WriteFile(filepath.Join(broken, "text_encoder", "model.onnx"), []byte("version https://git-lfs.github.com/spec/v1\noid sha256:12"), 0o644)
	os.Truncate(filepath.Join(broken, "tokenizer", "vocab.json"), 0)
	f := checkModels(models)
	for _, text := range []string{"unet/model.onnx is missing", "text_encoder/model.onnx is only a Git LFS pointer", "tokenizer/vocab.json is empty"} {
		if f[0].Grade != missing || !strings.Contains(f[0].Found, text) {
			t.Errorf("%q is not in %+v", text, f[0])
		}
	}
	model(t, filepath.Join(models, "whole"))
	if f := checkModels(models); len(f) != 2 || f[0].Grade != note || f[1].Grade != good {
		t.Fatalf("a whole model beside a broken one: %+v", f)
	}
}

func TestDoctorLooksAtTheDataFolderWithoutMakingIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if f := checkData(dir); f.Grade == missing || !strings.Contains(f.Found, "can be made") {
		t.Fatalf("%+v", f)
	}
	if entries, _ := os.ReadDir(filepath.Dir(filepath.Dir(dir))); len(entries) != 0 {
		t.Fatalf("left behind: %v", entries)
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	if f := checkData(file); f.Grade != missing || f.Remedy == "" {
		t.Fatalf("%+v", f)
	}
}

func TestDoctorAsJSON(t *testing.T) {
	r := (&fake{}).typed(t, "doctor", "--models", t.TempDir(), "--data", t.TempDir(), "--server", "named:1", "--output", "json")
	r.wants(t, exitFailed)
	found := map[string]finding{}
	for line := range strings.Lines(r.out) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		found[f.Check] = f
	}
	if found["models"].Grade != missing || found["data"].Grade == missing || found["nats"].Grade != good {
		t.Fatalf("%+v", found)
	}
	if f := found["server"]; f.Grade != good || !strings.Contains(f.Found, "embedder, sampler, generator, trainer") {
		t.Fatalf("server: %+v", f)
	}
}
