package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/npy"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// GetSpace and StreamBank serve one space of two classes, with f.rows embeddings.
func (f *fake) GetSpace(context.Context, *embedderv1.GetSpaceRequest) (*embedderv1.GetSpaceResponse, error) {
	return &embedderv1.GetSpaceResponse{Space: &embedderv1.Space{
		Name: "spaces/pets", Dimension: 2, Bank: "sha256:b", Classes: []*embedderv1.SpaceClass{
			{Name: "cat", Word: "cat", Count: f.rows[0], Anchor: []float32{1, 2}}, {Name: "dog", Word: "dog", Count: f.rows[1], Anchor: []float32{3, 4}},
		},
	}}, nil
}

func (f *fake) StreamBank(_ *embedderv1.StreamBankRequest, stream embedderv1.EmbedderService_StreamBankServer) error {
	for label, count := range f.rows {
		for row := int32(0); row < count; row++ { // a row a piece
			piece := &embedderv1.StreamBankResponse{Label: int32(label), Offset: row, Total: count, Dimension: 2, Values: []float32{float32(label), float32(row)}}
			if row == 0 {
				piece.Bank = "sha256:b"
			}
			if f.spoilBank != nil {
				f.spoilBank(piece)
			}
			if err := stream.Send(piece); err != nil {
				return err
			}
		}
	}
	return nil
}

func readArray(t *testing.T, path string) ([]float32, []int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, shape, err := npy.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return data, shape
}

func TestSpaceExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pets")
	f := &fake{rows: [2]int32{2, 1}}
	export := func(more ...string) result {
		return f.typed(t, append([]string{"space", "export", "pets", "--out", dir}, more...)...)
	}
	export().wants(t, 0, "3 embeddings of 2 classes, 2 dimensions")
	data, shape := readArray(t, filepath.Join(dir, "bank.npy"))
	if !slices.Equal(shape, []int{3, 2}) || !slices.Equal(data, []float32{0, 0, 0, 1, 1, 0}) {
		t.Errorf("bank %v of shape %v", data, shape)
	}
	file, err := os.Open(filepath.Join(dir, "labels.npy"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if labels, err := npy.ReadLabels(file); err != nil || !slices.Equal(labels, []int{0, 0, 1}) {
		t.Errorf("labels %v, %v", labels, err)
	}
	if data, shape := readArray(t, filepath.Join(dir, "anchors.npy")); !slices.Equal(shape, []int{2, 2}) || !slices.Equal(data, []float32{1, 2, 3, 4}) {
		t.Errorf("anchors %v of shape %v", data, shape)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil || strings.Count(string(manifest), "\n") != 2 || !strings.Contains(string(manifest), `"dog"`) {
		t.Errorf("manifest %q, %v", manifest, err)
	}
	export().wants(t, exitUsage, "--force")
	f.rows = [2]int32{2, 2}
	export("--force").wants(t, 0)
	if _, shape := readArray(t, filepath.Join(dir, "bank.npy")); !slices.Equal(shape, []int{2, 2, 2}) {
		t.Errorf("shape %v where all classes are of one size", shape)
	}
	if _, err := os.Stat(filepath.Join(dir, "labels.npy")); err == nil {
		t.Error("labels of an earlier export stayed")
	}
}

func TestSpaceExportOfABrokenStream(t *testing.T) {
	for name, spoil := range map[string]func(*embedderv1.StreamBankResponse){
		"trained again":   func(p *embedderv1.StreamBankResponse) { p.Bank = "sha256:c" },
		"the server sent": func(p *embedderv1.StreamBankResponse) { p.Label = 1 },
	} {
		dir := t.TempDir()
		f := &fake{rows: [2]int32{2, 2}, spoilBank: spoil}
		f.typed(t, "space", "export", "pets", "--out", dir).wants(t, exitFailed, name)
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
