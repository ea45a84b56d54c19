package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/hub/hubtest"
)

// models runs a command on a folder of models.
func models(t *testing.T, want int, args ...string) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if code := run(t.Context(), append([]string{"models"}, args...), &o, &e, nil); code != want {
		t.Fatalf("models %v: exit code %d, want %d\n%s%s", args, code, want, o.String(), e.String())
	}
	return o.String(), e.String()
}

func TestModelsByHand(t *testing.T) {
	const tiny = "../../internal/diffusion/testdata/tiny"
	dir := filepath.Join(t.TempDir(), "models")
	if out, _ := models(t, exitOK, "add", "sd", tiny, "--models", dir); !strings.Contains(out, "sd is in the store: 12 files") {
		t.Error(out)
	}
	if _, errs := models(t, exitFailed, "add", "sd", tiny, "--models", dir); !strings.Contains(errs, "--replace") {
		t.Error(errs)
	}
	models(t, exitOK, "add", "sd", tiny, "--models", dir, "--replace")
	if out, _ := models(t, exitOK, "list", "--models", dir); !strings.Contains(out, "16×16") || !strings.Contains(out, "float32") || !strings.Contains(out, "good") {
		t.Error(out)
	}
	out, _ := models(t, exitOK, "verify", "--models", dir, "--output", "json")
	var line struct {
		Name, Digest string
		Good         bool
	}
	if err := json.Unmarshal([]byte(out), &line); err != nil || !line.Good || len(line.Digest) != 64 {
		t.Errorf("%s: %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sd", "unet", "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := models(t, exitFailed, "verify", "sd", "--models", dir); !strings.Contains(out, "sd: unet/config.json: has 2 bytes") {
		t.Error(out)
	}
	models(t, exitOK, "remove", "sd", "--models", dir)
	models(t, exitFailed, "remove", "sd", "--models", dir)
	models(t, exitFailed, "verify", "../sd", "--models", dir)
}

func TestModelsPull(t *testing.T) {
	files := map[string][]byte{}
	root := os.DirFS("../../internal/diffusion/testdata/tiny")
	err := fs.WalkDir(root, ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files[path], err = fs.ReadFile(root, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h := hubtest.New(t, files, "unet/model.onnx")
	t.Setenv("HF_ENDPOINT", h.URL())
	t.Setenv("HF_TOKEN", "hf_x")
	dir := t.TempDir()
	out, errs := models(t, exitOK, "pull", "sd", "org/model", "--models", dir)
	if !strings.Contains(out, "hub:org/model@"+hubtest.Commit) || !strings.Contains(errs, "pull sd: 2/2 MB") {
		t.Errorf("%s%s", out, errs)
	}
	if out, _ := models(t, exitOK, "pull", "sd", "org/model", "--models", dir); !strings.Contains(out, "already, unchanged") {
		t.Error(out)
	}
	if !strings.Contains(strings.Join(h.Tokens(), "\n"), "hub Bearer hf_x") {
		t.Error("HF_TOKEN was not sent")
	}
	if _, errs := models(t, exitFailed, "pull", "other", "org/none", "--models", dir); !strings.Contains(errs, "check the name") && !strings.Contains(errs, "not found") {
		t.Error(errs)
	}
	models(t, exitUsage, "pull", "other", "org/none", "--models", dir, "--endpoint", "ftp://x")
}
