package onnx_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// withExternal moves the weights of affine to a file.
func withExternal(t *testing.T, location, offset, length string) []byte {
	g := affine()
	w := g.FindInitializer("w")
	w.RawData, w.DataLocation = nil, onnxpb.TensorProto_EXTERNAL
	w.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: location}, {Key: "offset", Value: offset}, {Key: "length", Value: length}}
	return serialise(t, g)
}

func TestExternalData(t *testing.T) {
	dir := t.TempDir()
	weights := append(make([]byte, 64), affine().FindInitializer("w").RawData...)
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(filepath.Join(dir, "weights.bin"), weights, 0o600); err != nil {
		t.Fatal(err)
	}
	model := withExternal(t, "weights.bin", "64", "24")
	if err := os.WriteFile(path, model, 0o600); err != nil {
		t.Fatal(err)
	}
	load := map[string]func() (*onnx.Session, error){
		"file":  func() (*onnx.Session, error) { return onnx.NewSessionFile(path, onnx.Config{}) },
		"bytes": func() (*onnx.Session, error) { return onnx.NewSession(model, onnx.Config{ExternalData: dir}) },
	}
	for name, open := range load {
		s, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": floats(t, []float32{1, 2, 3}, 1, 3)}, "y")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]float32{14, 25}, out["y"].Float32()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		out["y"].Close()
		s.Close()
	}
	m, err := onnxpb.Unmarshal(model)
	if err != nil {
		t.Fatal(err)
	}
	w := m.Graph.FindInitializer("w")
	if err := onnx.LoadExternal(w, dir); err != nil {
		t.Fatal(err)
	}
	got, err := onnxpb.Floats(w)
	if diff := cmp.Diff([]float32{1, 0, 0, 1, 1, 1}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestHostileExternalData(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	dir := t.TempDir()
	if err := os.WriteFile(outside, make([]byte, 24), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short.bin"), make([]byte, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.bin")); err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		outside:                  "leaves the model's folder",
		"../secret":              "leaves the model's folder",
		"":                       "names no location",
		"link.bin":               "out of the model's folder",
		"none.bin":               "no such file",
		"short.bin":              "beyond the end",
		"*/_ORT_MEM_ADDR_/*":     "no plain path",
		`..\secret`:              "no plain path",
		"a/../../secret":         "leaves the model's folder",
		"short.bin\x00":          "no plain path",
		".":                      "not a regular file",
		"sub/../../../etc/hosts": "leaves the model's folder",
	} {
		_, err := onnx.NewSession(withExternal(t, location, "0", "24"), onnx.Config{ExternalData: dir})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("location %q: got %v, want %q", location, err, want)
		}
	}
	for _, offset := range []string{"-4", "x", "9223372036854775807"} {
		if _, err := onnx.NewSession(withExternal(t, "short.bin", offset, "8"), onnx.Config{ExternalData: dir}); err == nil {
			t.Errorf("offset %s was accepted", offset)
		}
	}
	if _, err := onnx.NewSession(withExternal(t, "short.bin", "0", "8"), onnx.Config{}); err == nil {
		t.Error("external data was accepted without a folder")
	}
}
