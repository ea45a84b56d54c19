package test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// parity is what tools/parity/detector.py compares with onnxruntime's own Python package.
type parity struct {
	Classes  []string        `json:"classes"`
	Decides  string          `json:"decides"` // name of the score
	Pictures []parityPicture `json:"pictures"`
}

// parityPicture is what the mesh says of a picture.
type parityPicture struct {
	Archive     string  `json:"archive"` // below sample/
	File        string  `json:"file"`    // in the archive
	Class       string  `json:"class"`
	Probability float32 `json:"probability"` // of the class
	Score       float32 `json:"score"`       // the one that decides
	Out         bool    `json:"out"`         // of distribution
	// Scores are all scores of the detector by name, of one pass with the decision.
	Scores map[string]float32 `json:"scores"`
}

// recordParity writes the story's detector and what the mesh says of all test pictures into a folder.
func recordParity(t *testing.T, m mesh, end ending, dir string) {
	client, out := trainerv1.NewTrainerServiceClient(m.trainer), parity{Classes: end.detector.Classes, Decides: end.detector.Score}
	for _, archive := range []string{"cifar10_test.zip", "ood_cifar100.zip", "ood_textures.zip"} {
		files, images := archived(t, archive)
		for from := 0; from < len(files); from += 200 {
			to := min(from+200, len(files))
			r, err := client.ScoreImages(context.Background(), &trainerv1.ScoreImagesRequest{Detector: end.detector.Name, Images: images[from:to], Scores: []string{"all"}})
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range r.Scores {
				out.Pictures = append(out.Pictures, parityPicture{archive, files[from+i], s.Class, s.Probability, s.Score, s.OutOfDistribution, s.Scores})
			}
		}
	}
	text, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"detector.onnx": end.onnx, "expected.json": text} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
