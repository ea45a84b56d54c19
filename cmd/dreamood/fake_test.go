package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server of all roles that answers from a script. It keeps the requests that it got.
type fake struct {
	runv1.UnimplementedRunServiceServer
	embedderv1.UnimplementedEmbedderServiceServer
	generatorv1.UnimplementedGeneratorServiceServer
	trainerv1.UnimplementedTrainerServiceServer
	samples kennel

	rows      [2]int32 // of the classes of the space
	spoilBank func(*embedderv1.StreamBankResponse)

	mu       sync.Mutex
	submit   error                                         // what submissions are refused with
	streams  []func(runv1.RunService_WatchRunServer) error // one per WatchRun, the last one again and again
	watched  []uint64                                      // after_sequence of every WatchRun
	ended    *runv1.Run                                    // what GetRun and ListRuns know
	set      []*generatorv1.Picture
	detector *trainerv1.Detector
	model    []byte            // what DownloadDetector streams
	archives map[string][]byte // what DownloadMeasurements streams, by name
	outside  map[string]bool   // pictures that are out of distribution
	space    *embedderv1.TrainSpaceRequest
	render   *generatorv1.RenderSetRequest
	train    *trainerv1.TrainDetectorRequest
	batches  []int
	cancels  []string
	listed   *runv1.ListRunsRequest // the last one
	pipeline *runv1.SubmitPipelineRequest
}

func runIn(state runv1.RunState, done int64) *runv1.Run {
	return &runv1.Run{Name: "runs/r1", Kind: "render-set", Target: "sets/demo", State: state,
		Progress: &runv1.Progress{Done: done, Total: 4, Unit: "pictures"}}
}

func succeeded() *runv1.Run {
	run := runIn(runv1.RunState_RUN_STATE_SUCCEEDED, 4)
	run.Result = "sets/demo"
	return run
}

// events is a stream of runs, numbered from first, and how it ends.
func events(first uint64, end error, runs ...*runv1.Run) func(runv1.RunService_WatchRunServer) error {
	return func(stream runv1.RunService_WatchRunServer) error {
		for i, run := range runs {
			if err := stream.Send(&runv1.WatchRunResponse{Sequence: first + uint64(i), Run: run}); err != nil {
				return err
			}
		}
		return end
	}
}

func (f *fake) WatchRun(q *runv1.WatchRunRequest, stream runv1.RunService_WatchRunServer) error {
	f.mu.Lock()
	n := len(f.watched)
	f.watched = append(f.watched, q.AfterSequence)
	play := f.streams[min(n, len(f.streams)-1)]
	f.mu.Unlock()
	return play(stream)
}

func (f *fake) GetRun(_ context.Context, q *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
	if f.ended == nil || q.Name != f.ended.Name {
		return nil, fault.New(fault.NotFound, "%s: there is none", q.Name)
	}
	return &runv1.GetRunResponse{Run: f.ended}, nil
}

func (f *fake) ListRuns(_ context.Context, q *runv1.ListRunsRequest) (*runv1.ListRunsResponse, error) {
	f.listed = q
	if q.PageToken == "" {
		return &runv1.ListRunsResponse{Runs: []*runv1.Run{f.ended}, NextPageToken: "2"}, nil
	}
	return &runv1.ListRunsResponse{Runs: []*runv1.Run{f.ended, f.ended}}, nil
}

func (f *fake) CancelRun(_ context.Context, q *runv1.CancelRunRequest) (*runv1.CancelRunResponse, error) {
	f.cancels = append(f.cancels, q.Name)
	return &runv1.CancelRunResponse{Run: &runv1.Run{Name: q.Name, State: runv1.RunState_RUN_STATE_CANCELLED}}, nil
}

func (f *fake) TrainSpace(_ context.Context, q *embedderv1.TrainSpaceRequest) (*embedderv1.TrainSpaceResponse, error) {
	f.space = q
	return &embedderv1.TrainSpaceResponse{Run: runIn(runv1.RunState_RUN_STATE_PENDING, 0)}, f.submit
}

func (f *fake) RenderSet(_ context.Context, q *generatorv1.RenderSetRequest) (*generatorv1.RenderSetResponse, error) {
	f.render = q
	return &generatorv1.RenderSetResponse{Run: runIn(runv1.RunState_RUN_STATE_PENDING, 0)}, f.submit
}

func (f *fake) GetSet(_ context.Context, q *generatorv1.GetSetRequest) (*generatorv1.GetSetResponse, error) {
	return &generatorv1.GetSetResponse{Set: &generatorv1.Set{Name: q.Name, Classes: []string{"cat"}, Pictures: int32(len(f.set))}}, nil
}

func (f *fake) StreamSet(_ *generatorv1.StreamSetRequest, stream generatorv1.GeneratorService_StreamSetServer) error {
	for _, p := range f.set {
		if err := stream.Send(&generatorv1.StreamSetResponse{Picture: p}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) TrainDetector(_ context.Context, q *trainerv1.TrainDetectorRequest) (*trainerv1.TrainDetectorResponse, error) {
	f.train = q
	return &trainerv1.TrainDetectorResponse{Run: runIn(runv1.RunState_RUN_STATE_PENDING, 0)}, f.submit
}

func (f *fake) GetDetector(context.Context, *trainerv1.GetDetectorRequest) (*trainerv1.GetDetectorResponse, error) {
	return &trainerv1.GetDetectorResponse{Detector: f.detector}, nil
}

func (f *fake) DownloadDetector(_ *trainerv1.DownloadDetectorRequest, stream trainerv1.TrainerService_DownloadDetectorServer) error {
	for piece := f.model; len(piece) > 0; {
		n := min(3, len(piece))
		if err := stream.Send(&trainerv1.DownloadDetectorResponse{Data: piece[:n]}); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

func (f *fake) StreamScores(stream trainerv1.TrainerService_StreamScoresServer) error {
	for first := true; ; first = false {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if (q.Detector == "detectors/d") != first {
			return fault.Invalid("detector", "is %q in message %v", q.Detector, first)
		}
		f.batches = append(f.batches, len(q.Images))
		answer := &trainerv1.StreamScoresResponse{}
		for i, image := range q.Images {
			if string(image) == "broken" {
				return fault.Invalid("images["+string(rune('0'+i))+"]", "is no picture")
			}
			answer.Scores = append(answer.Scores, &trainerv1.ImageScore{Class: string(image), Probability: 0.5, OutOfDistribution: f.outside[string(image)]})
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// start serves f and returns how to dial it; generator takes its place in that role.
func (f *fake) start(t *testing.T, generator generatorv1.GeneratorServiceServer) func(string) (*grpc.ClientConn, error) {
	t.Helper()
	server := rpc.NewServer(rpc.Config{DrainTimeout: time.Second}, zap.NewNop())
	runv1.RegisterRunServiceServer(server, f)
	embedderv1.RegisterEmbedderServiceServer(server, f)
	samplerv1.RegisterSamplerServiceServer(server, &f.samples)
	generatorv1.RegisterGeneratorServiceServer(server, generator)
	trainerv1.RegisterTrainerServiceServer(server, f)
	local := rpc.NewLocal()
	server.Start(local)
	t.Cleanup(func() {
		server.Stop()
		<-server.Done()
	})
	return func(string) (*grpc.ClientConn, error) { return local.Dial() }
}

// result is what a command printed and how it ended.
type result struct {
	code      int
	out, errs string
}

// typed runs a command line against the fake.
func (f *fake) typed(t *testing.T, args ...string) result {
	t.Helper()
	return f.typedAs(t, f, args...)
}

// typedAs is typed with another generator.
func (f *fake) typedAs(t *testing.T, generator generatorv1.GeneratorServiceServer, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	code := run(ctx, args, &out, &errs, f.start(t, generator))
	return result{code, out.String(), errs.String()}
}

// wants fails the test unless the command ended with code and printed all the texts, to whichever stream.
func (r result) wants(t *testing.T, code int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out+r.errs, text) {
			t.Errorf("%q is not in the output", text)
		}
	}
	if r.code != code || t.Failed() {
		t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", r.code, code, r.out, r.errs)
	}
}

func picture(file, class, png string) *generatorv1.Picture {
	sum := sha256.Sum256([]byte(png))
	return &generatorv1.Picture{Png: []byte(png), Record: &generatorv1.PictureRecord{File: file, Class: class, Sha256: hex.EncodeToString(sum[:])}}
}
