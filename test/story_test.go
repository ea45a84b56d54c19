// Package test tells the story of the mesh, real pictures in and a detector out, on real gRPC, JetStream and ONNX:
// once in one process and once in four with a NATS server of their own.
package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/fault"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// mesh is how the story reaches the roles; in one process all four are the same connection.
type mesh struct {
	embedder, sampler, generator, trainer grpc.ClientConnInterface

	training string // path of the pictures to train on, inside a dataset root
}

func sample(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "sample", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// perClass is the number of pictures that the story renders of each class: no multiple of a shard or a batch.
const perClass = 7

// rendering is how the story renders: few steps, since the pictures need not be good.
func rendering() *generatorv1.Rendering { return &generatorv1.Rendering{Steps: 3} }

// ending is what the story made.
type ending struct {
	space    *embedderv1.Space
	pictures map[string]string // sha256 of every picture of the outlier set, by file
	detector *trainerv1.Detector
	onnx     []byte // the detector's file
}

// story runs the whole path, small, and checks what every step gives.
func story(t *testing.T, m mesh) ending {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var e ending
	refuseBadRequests(ctx, t, m)
	e.space = trainSpace(ctx, t, m)
	embed(ctx, t, m, e.space)
	outliers(ctx, t, m, e.space)
	cancelSet(ctx, t, m, e.space)
	var set string
	set, e.pictures = renderSet(ctx, t, m, e.space)
	e.detector = trainDetector(ctx, t, m, set)
	e.onnx = download(ctx, t, m, e.detector)
	evaluate(ctx, t, m, e.detector)
	scoreImages(ctx, t, m, e.detector)
	serveDetector(ctx, t, m, e.detector)
	return e
}

func refuseBadRequests(ctx context.Context, t *testing.T, m mesh) {
	_, err := embedderv1.NewEmbedderServiceClient(m.embedder).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
		SpaceId: "No Name", Dataset: "", Training: &embedderv1.SpaceTraining{Epochs: -1, Width: 9},
	})
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != fault.InvalidArgument || len(f.Violations) != 4 {
		t.Errorf("a bad request came back as %v", err)
	}
	_, err = embedderv1.NewEmbedderServiceClient(m.embedder).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{SpaceId: "x", Dataset: "/etc"})
	if fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a dataset outside the roots came back as %v", err)
	}
	_, err = generatorv1.NewGeneratorServiceClient(m.generator).GetSet(ctx, &generatorv1.GetSetRequest{Name: "sets/none"})
	if fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("a missing set came back as %v", err)
	}
	_, err = trainerv1.NewTrainerServiceClient(m.trainer).TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: "d", Dataset: m.training, TestDataset: sample(t, "ood_textures.zip"), Set: "sets/none",
	})
	if fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("training with a missing set came back as %v", err)
	}
}

func trainSpace(ctx context.Context, t *testing.T, m mesh) *embedderv1.Space {
	client := embedderv1.NewEmbedderServiceClient(m.embedder)
	request := &embedderv1.TrainSpaceRequest{
		SpaceId: "story", Dataset: m.training, RequestId: "story-space",
		Training: &embedderv1.SpaceTraining{Epochs: 3, Width: 8, BankPerClass: 80, BatchSize: 32},
	}
	r, err := client.TrainSpace(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.TrainSpace(ctx, request)
	if err != nil || again.Run.Name != r.Run.Name {
		t.Fatalf("the same request gave %v, %v", again.GetRun().GetName(), err)
	}
	name := succeed(ctx, t, m.embedder, r.Run)
	g, err := client.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	s := g.Space
	if len(s.Classes) != 10 || s.Dimension != 256 || s.Classes[8].Name != "ship" || s.Classes[8].Count != 80 || len(s.Classes[8].Anchor) != 256 {
		t.Fatalf("space %v", s)
	}
	if first, last := s.Loss[0].Loss, s.Loss[len(s.Loss)-1].Loss; !(last < first-0.2) || !(s.Accuracy > 0.2) {
		t.Errorf("the space did not learn: loss %g to %g, accuracy %g (chance is 0.1)", first, last, s.Accuracy)
	}
	t.Logf("accuracy of the space %.3f", s.Accuracy)
	request.RequestId = ""
	if _, err := client.TrainSpace(ctx, request); fault.ReasonOf(err) != fault.AlreadyExists {
		t.Errorf("a taken id came back as %v", err)
	}
	return s
}

func embed(ctx context.Context, t *testing.T, m mesh, space *embedderv1.Space) {
	client := embedderv1.NewEmbedderServiceClient(m.embedder)
	stream, err := client.EmbedImages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	images := pictures(t, 20)
	if err := stream.Send(&embedderv1.EmbedImagesRequest{Space: space.Name, Images: images}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil || len(r.Embeddings) != 20 {
		t.Fatalf("%d embeddings, %v", len(r.GetEmbeddings()), err)
	}
	if n := norm(r.Embeddings[0].Values); math.Abs(n-1) > 1e-4 {
		t.Errorf("an embedding has norm %g", n)
	}
	if err := stream.Send(&embedderv1.EmbedImagesRequest{Images: [][]byte{images[0][:40]}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("half a picture came back as %v", err)
	}
}

func outliers(ctx context.Context, t *testing.T, m mesh, space *embedderv1.Space) {
	client := samplerv1.NewSamplerServiceClient(m.sampler)
	collect := func(offset, count int32) [][]float32 {
		stream, err := client.SampleOutliers(ctx, &samplerv1.SampleOutliersRequest{Space: space.Name, Class: "cat", Offset: offset, Count: count})
		if err != nil {
			t.Fatal(err)
		}
		var out [][]float32
		var report *samplerv1.SamplingReport
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				if report == nil || report.Class != "cat" {
					t.Fatalf("the stream ended with the report %v", report)
				}
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			if report = r.Report; report == nil {
				out = append(out, r.Outlier.Values)
			}
		}
	}
	all, part := collect(0, 130), collect(95, 20)
	for i := range part {
		if !slices.Equal(part[i], all[95+i]) {
			t.Fatalf("outlier %d depends on the range that was asked for", 95+i)
		}
	}
	cat := space.Classes[3]
	if a, b := norm(all[0]), norm(cat.Anchor); math.Abs(a-b) > 1e-3*b {
		t.Errorf("an outlier has norm %g, the anchor %g", a, b)
	}
	_, err := client.DescribeBoundary(ctx, &samplerv1.DescribeBoundaryRequest{Space: space.Name, Class: "cat", Sampling: &samplerv1.Sampling{K: 5000, Sigma: -1}})
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Violations) != 2 {
		t.Errorf("bad settings came back as %v", err)
	}
}

func renderSet(ctx context.Context, t *testing.T, m mesh, space *embedderv1.Space) (set string, pictures map[string]string) {
	client := generatorv1.NewGeneratorServiceClient(m.generator)
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{SetId: "story", Space: space.Name, PerClass: perClass, Rendering: rendering()})
	if err != nil {
		t.Fatal(err)
	}
	set = succeed(ctx, t, m.generator, r.Run)
	pictures = list(ctx, t, m.generator, set)
	stream, err := client.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: set, Classes: []string{"ship"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	ship, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got := ship.Picture.Record.File; got != "ship/000005.png" {
		t.Fatalf("the sixth ship is %s", got)
	}
	replay(ctx, t, client, space, ship.Picture)
	return set, pictures
}

// list is the sha256 of every picture of a set by its file, checked: each picture of each class once, and what its
// record says.
func list(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, set string) map[string]string {
	t.Helper()
	stream, err := generatorv1.NewGeneratorServiceClient(conn).StreamSet(ctx, &generatorv1.StreamSetRequest{Name: set})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r, sum := p.Picture.Record, sha256.Sum256(p.Picture.Png)
		if hex.EncodeToString(sum[:]) != r.Sha256 || r.Index >= perClass || files[r.File] != "" {
			t.Errorf("%s: picture %d of class %s with sha256 %s is there twice, too much or not what its record says", r.File, r.Index, r.Class, r.Sha256)
		}
		files[r.File] = r.Sha256
	}
	if len(files) != 10*perClass {
		t.Errorf("%s has %d pictures, want %d", set, len(files), 10*perClass)
	}
	return files
}

// replay renders a picture again from nothing but its record: the file must be the same, byte for byte.
func replay(ctx context.Context, t *testing.T, client generatorv1.GeneratorServiceClient, space *embedderv1.Space, want *generatorv1.Picture) {
	r := want.Record
	for _, q := range []*generatorv1.RenderOutliersRequest{
		{Space: r.Space, Class: r.Class, Offset: r.Index, Count: 1, Sampling: r.Sampling, Rendering: r.Rendering},
		{Space: r.Space, Class: r.Class, Offset: r.Index, Embeddings: []*generatorv1.EmbeddingValues{{Values: r.Embedding}}, Rendering: r.Rendering},
	} {
		stream, err := client.RenderOutliers(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(got.Picture.Png))
		if err != nil || img.Bounds().Dx() != 32 {
			t.Fatalf("the picture is none: %v", err)
		}
		if !bytes.Equal(got.Picture.Png, want.Png) || got.Picture.Record.Sha256 != r.Sha256 {
			t.Errorf("rendered again from its record, %s differs", r.File)
		}
	}
}

func trainDetector(ctx context.Context, t *testing.T, m mesh, set string) *trainerv1.Detector {
	client := trainerv1.NewTrainerServiceClient(m.trainer)
	r, err := client.TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: "story", Dataset: m.training, TestDataset: sample(t, "cifar10_test.zip"), Set: set,
		OodDatasets: []*trainerv1.NamedDataset{{Name: "textures", Path: sample(t, "ood_textures.zip")}},
		Training:    &trainerv1.DetectorTraining{Epochs: 4, Width: 8, BatchSize: 32, OutlierBatchSize: 16},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := succeed(ctx, t, m.trainer, r.Run)
	g, err := client.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	d := g.Detector
	e := d.Evaluation
	// Chance is 0.1, with a standard error of 0.013 over 500 pictures: five of them above it.
	if !(e.IdAccuracy > 0.165) || e.IdCount != 500 || len(e.Ood) != 1 || e.Ood[0].Count != 200 || !(e.Ood[0].Auroc > 0 && e.Ood[0].Auroc < 1) {
		t.Errorf("evaluation: accuracy %g of %d, %v", e.IdAccuracy, e.IdCount, e.Ood)
	}
	t.Logf("accuracy of the detector %.3f, AUROC %.3f", e.IdAccuracy, e.Ood[0].Auroc)
	if last := d.Loss[len(d.Loss)-1]; !(last.Ood > 0) || !(last.Classification < d.Loss[0].Classification) {
		t.Errorf("losses %v to %v", d.Loss[0], last)
	}
	return d
}

func download(ctx context.Context, t *testing.T, m mesh, d *trainerv1.Detector) []byte {
	stream, err := trainerv1.NewTrainerServiceClient(m.trainer).DownloadDetector(ctx, &trainerv1.DownloadDetectorRequest{Name: d.Name})
	if err != nil {
		t.Fatal(err)
	}
	var onnx []byte
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		onnx = append(onnx, p.Data...)
	}
	if got := artifact.RefOf(onnx); string(got) != d.Model {
		t.Fatalf("the file of %d bytes is %s, the detector names %s", len(onnx), got, d.Model)
	}
	return onnx
}

// evaluate measures the detector against another OOD set; what was measured before stays.
func evaluate(ctx context.Context, t *testing.T, m mesh, d *trainerv1.Detector) {
	client := trainerv1.NewTrainerServiceClient(m.trainer)
	r, err := client.EvaluateDetector(ctx, &trainerv1.EvaluateDetectorRequest{
		Name: d.Name, TestDataset: sample(t, "cifar10_test.zip"),
		OodDatasets: []*trainerv1.NamedDataset{{Name: "cifar100", Path: sample(t, "ood_cifar100.zip")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if name := succeed(ctx, t, m.trainer, r.Run); name != d.Name {
		t.Fatalf("the evaluation made %s", name)
	}
	g, err := client.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: d.Name})
	if err != nil {
		t.Fatal(err)
	}
	e := g.Detector.Evaluation
	if len(e.Ood) != 2 || e.Ood[0].Name != "cifar100" || e.Ood[0].Count != 250 || !proto.Equal(e.Ood[1], d.Evaluation.Ood[0]) {
		t.Errorf("evaluated again: %v, before: %v", e.Ood, d.Evaluation.Ood)
	}
}

func scoreImages(ctx context.Context, t *testing.T, m mesh, d *trainerv1.Detector) {
	client := trainerv1.NewTrainerServiceClient(m.trainer)
	r, err := client.ScoreImages(ctx, &trainerv1.ScoreImagesRequest{Detector: d.Name, Images: pictures(t, 30)})
	if err != nil || len(r.Scores) != 30 {
		t.Fatalf("%d scores, %v", len(r.GetScores()), err)
	}
	for i, s := range r.Scores {
		if s.OutOfDistribution != (s.Score < s.Threshold) || !slices.Contains(d.Classes, s.Class) || !(s.Probability > 0 && s.Probability <= 1) {
			t.Errorf("score %d: %v", i, s)
		}
	}
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}
