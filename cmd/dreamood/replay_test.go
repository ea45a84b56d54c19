package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// dot is a PNG of 4x4 grey pixels, the first of another value.
func dot(t *testing.T, grey, first uint8) string {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		img.Set(i%4, i/4, color.NRGBA{grey, grey, grey, 255})
	}
	img.Set(0, 0, color.NRGBA{first, grey, grey, 255})
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// RenderOutliers sends the pictures that the fake has for the index.
func (f *fake) RenderOutliers(q *generatorv1.RenderOutliersRequest, stream generatorv1.GeneratorService_RenderOutliersServer) error {
	return stream.Send(&generatorv1.RenderOutliersResponse{Picture: f.set[q.Offset]})
}

func TestReplayOnTheServer(t *testing.T) {
	dir := t.TempDir()
	same, near, far := picture("cat/000000.png", "cat", dot(t, 80, 80)), picture("cat/000001.png", "cat", dot(t, 90, 90)), picture("cat/000002.png", "cat", dot(t, 7, 7))
	for i, p := range []*generatorv1.Picture{same, near, far} {
		p.Record.Index, p.Record.Rendering = int32(i), &generatorv1.Rendering{Model: "reference"}
	}
	kept := &fake{set: []*generatorv1.Picture{same, near, far}}
	for _, format := range []string{"folder", "webdataset"} {
		kept.typed(t, "sets", "export", "demo", "--out", filepath.Join(dir, format), "--format", format).wants(t, exitOK)
	}
	now := &fake{set: []*generatorv1.Picture{same, picture("", "", dot(t, 90, 91)), picture("", "", dot(t, 7, 60))}}
	for _, format := range []string{"folder", "webdataset"} {
		out := filepath.Join(dir, format)
		now.typed(t, "replay", out, "--all", "--on-server").wants(t, exitFailed, "1 of 3 pictures are the same", "1/255", "53/255")
		now.typed(t, "replay", out, "--line", "1", "--on-server").wants(t, exitOK, "1 of 1 pictures are the same")
		now.typed(t, "replay", out, "--line", "1", "--line", "2", "--on-server", "--tolerance", "1").wants(t, exitOK, "1 more are within 1/255")
		now.typed(t, "replay", out, "--all", "--on-server", "--tolerance", "1", "--output", "json").wants(t, exitFailed, `"result":"within"`, `"result":"differs"`, `"largest":53`)
		now.typed(t, "replay", out, "--line", "9", "--on-server").wants(t, exitUsage, "has not all of the lines")
	}
	if err := os.Remove(filepath.Join(dir, "folder", "cat", "000002.png")); err != nil {
		t.Fatal(err)
	}
	now.typed(t, "replay", filepath.Join(dir, "folder"), "--all", "--on-server", "--tolerance", "255").wants(t, exitFailed, "not beside the manifest")
}
