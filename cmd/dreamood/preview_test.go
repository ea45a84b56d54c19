package main

import (
	"os"
	"path/filepath"
	"testing"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// studio renders from a script, and keeps what it was asked.
type studio struct {
	fake
	asked *generatorv1.RenderOutliersRequest
	plays []*generatorv1.RenderOutliersResponse
}

func (s *studio) RenderOutliers(q *generatorv1.RenderOutliersRequest, stream generatorv1.GeneratorService_RenderOutliersServer) error {
	s.asked = q
	for _, r := range s.plays {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func TestPreviewsAreKeptApart(t *testing.T) {
	s := &studio{plays: []*generatorv1.RenderOutliersResponse{
		{Preview: &generatorv1.Preview{Png: []byte("guess"), Class: "cat", Index: 3, Step: 2, Steps: 10}},
		{Picture: picture("cat/000003.png", "cat", "whole")},
	}}
	out, watch := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "watch")
	args := []string{"render", "--space", "s", "--class", "cat", "--count", "1", "--offset", "3", "--out", out}
	s.typedAs(t, s, append(args, "--preview", watch, "--preview-every", "2", "--preview-method", "linear")...).wants(t, exitOK, "1 pictures")
	if s.asked.PreviewEvery != 2 || s.asked.PreviewMethod != generatorv1.PreviewMethod_PREVIEW_METHOD_LINEAR {
		t.Errorf("asked for %v", s.asked)
	}
	if data, err := os.ReadFile(filepath.Join(watch, "cat", "000003.preview-002-of-010.png")); err != nil || string(data) != "guess" {
		t.Errorf("the preview: %q, %v", data, err)
	}
	if names, _ := filepath.Glob(filepath.Join(out, "cat", "*")); len(names) != 1 {
		t.Errorf("pictures %v; want one", names)
	}
	s.typedAs(t, s, append(args, "--force")...).wants(t, exitOK)
	if s.asked.PreviewEvery != 0 {
		t.Error("previews are asked for without --preview")
	}
	s.typedAs(t, s, append(args, "--preview-every", "2")...).wants(t, exitUsage, "--preview DIR")
	s.plays[0].Preview.Class = ".."
	s.typedAs(t, s, append(args, "--force", "--preview", watch)...).wants(t, exitFailed, "cannot name a folder")
}
