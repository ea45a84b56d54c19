// Package test tells the story of the mesh, real pictures in and a detector out, on real gRPC, JetStream and ONNX:
// once in one process and once in four with a NATS server of their own.
package test

import (
	"bytes"
	"context"
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

	"github.com/dreamood/dreamood/internal/fault"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// mesh is how the story reaches the roles; in one process all four are the same connection.
type mesh struct{ embedder, sampler, generator, trainer grpc.ClientConnInterface }

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

// story runs the whole path, small, and checks what every step gives.
func story(t *testing.T, m mesh) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	refuseBadRequests(ctx, t, m)
	space := trainSpace(ctx, t, m)
	embed(ctx, t, m, space)
	outliers(ctx, t, m, space)
	set := renderSet(ctx, t, m, space)
	detector := trainDetector(ctx, t, m, set)
	scoreImages(ctx, t, m, detector)
}

// wait follows a run to its end and returns it; the events must not go back.
func wait(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, run *runv1.Run) *runv1.Run {
	t.Helper()
	stream, err := runv1.NewRunServiceClient(conn).WatchRun(ctx, &runv1.WatchRunRequest{Name: run.Name})
	if err != nil {
		t.Fatal(err)
	}
	var last *runv1.WatchRunResponse
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("watch %s: %v", run.Name, err)
		}
		if last != nil && (e.Sequence <= last.Sequence || e.Run.ShardsDone < last.Run.ShardsDone) {
			t.Errorf("%s went back: %v after %v", run.Name, e, last)
		}
		last = e
	}
	if last == nil {
		t.Fatalf("%s had no events", run.Name)
	}
	return last.Run
}

func succeed(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, run *runv1.Run) string {
	t.Helper()
	end := wait(ctx, t, conn, run)
	if end.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Fatalf("%s of kind %s ended as %v: %v", end.Name, end.Kind, end.State, end.Failure)
	}
	return end.Result
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
		DetectorId: "d", Dataset: sample(t, "cifar10_train.tar.gz"), TestDataset: sample(t, "ood_textures.zip"), Set: "sets/none",
	})
	if fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("training with a missing set came back as %v", err)
	}
}

func trainSpace(ctx context.Context, t *testing.T, m mesh) *embedderv1.Space {
	client := embedderv1.NewEmbedderServiceClient(m.embedder)
	request := &embedderv1.TrainSpaceRequest{
		SpaceId: "story", Dataset: sample(t, "cifar10_train.tar.gz"), RequestId: "story-space",
		Training: &embedderv1.SpaceTraining{Epochs: 3, Width: 8, BankPerClass: 100, BatchSize: 64},
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
	if len(s.Classes) != 10 || s.Dimension != 256 || s.Classes[8].Name != "ship" || s.Classes[8].Count != 100 || len(s.Classes[8].Anchor) != 256 {
		t.Fatalf("space %v", s)
	}
	if first, last := s.Loss[0].Loss, s.Loss[len(s.Loss)-1].Loss; !(last < first-0.2) || !(s.Accuracy > 0.2) {
		t.Errorf("the space did not learn: loss %g to %g, accuracy %g (chance is 0.1)", first, last, s.Accuracy)
	}
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
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r.Outlier.Values)
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

func renderSet(ctx context.Context, t *testing.T, m mesh, space *embedderv1.Space) string {
	client := generatorv1.NewGeneratorServiceClient(m.generator)
	rendering := &generatorv1.Rendering{Steps: 4}
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{SetId: "story", Space: space.Name, PerClass: 13, Rendering: rendering})
	if err != nil {
		t.Fatal(err)
	}
	name := succeed(ctx, t, m.generator, r.Run)
	stream, err := client.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	var ship *generatorv1.Picture
	n := 0
	for ; ; n++ {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Picture.Record.Class == "ship" && p.Picture.Record.Index == 5 {
			ship = p.Picture
		}
	}
	if n != 130 || ship == nil {
		t.Fatalf("%d pictures, ship 5: %v", n, ship != nil)
	}
	replay(ctx, t, client, space, ship)
	return name
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
		DetectorId: "story", Dataset: sample(t, "cifar10_train.tar.gz"), TestDataset: sample(t, "cifar10_test.zip"), Set: set,
		OodDatasets: []*trainerv1.NamedDataset{{Name: "textures", Path: sample(t, "ood_textures.zip")}},
		Training:    &trainerv1.DetectorTraining{Epochs: 3, Width: 8, BatchSize: 64, OutlierBatchSize: 32},
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
	if !(e.IdAccuracy > 0.2) || e.IdCount != 500 || len(e.Ood) != 1 || e.Ood[0].Count != 200 || !(e.Ood[0].Auroc > 0 && e.Ood[0].Auroc < 1) {
		t.Errorf("evaluation: accuracy %g of %d, %v", e.IdAccuracy, e.IdCount, e.Ood)
	}
	if last := d.Loss[len(d.Loss)-1]; !(last.Ood > 0) || !(last.Classification < d.Loss[0].Classification) {
		t.Errorf("losses %v to %v", d.Loss[0], last)
	}
	file := filepath.Join(t.TempDir(), "detector.onnx")
	stream, err := client.DownloadDetector(ctx, &trainerv1.DownloadDetectorRequest{Name: name})
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
	if err := os.WriteFile(file, onnx, 0o644); err != nil || len(onnx) < 10_000 {
		t.Fatalf("%d bytes of ONNX, %v", len(onnx), err)
	}
	return d
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
