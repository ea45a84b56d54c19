package generator

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/engine"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// crashing is a model whose process ends under words that are cats, and once under anything.
type crashing struct {
	Pipeline
	tries *atomic.Int32
}

func (c crashing) Render(ctx context.Context, items []diffusion.Item, opts diffusion.Options) ([]diffusion.Image, error) {
	if items[0].Prompt == "" { // the picture that every model renders before it serves
		return c.Pipeline.Render(ctx, items, opts)
	}
	if n := c.tries.Add(1); n == 1 || strings.Contains(items[0].Prompt, "cat") {
		return nil, &engine.CrashError{Why: "was killed"}
	}
	return c.Pipeline.Render(ctx, items, opts)
}

// A shard whose engine process crashes is tried again and succeeds. One under which every process ends fails its run and
// becomes a dead letter; others' runs go on. A call gets UNAVAILABLE.
func TestCrashesOfTheEngineAreAttempts(t *testing.T) {
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c, err := catalog.New(t.Context(), b.JetStream(), catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	rs, err := runs.New(t.Context(), runs.Config{Kinds: []string{KindRenderSet}, Backoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond},
		runs.Deps{JS: b.JetStream(), Reason: func(err error) string { return string(fault.ReasonOf(err)) }})
	if err != nil {
		t.Fatal(err)
	}
	rs.Start()
	t.Cleanup(rs.Close)
	blobs, err := artifact.NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.Config{}, zap.NewNop())
	embedderv1.RegisterEmbedderServiceServer(server, oneSpace{})
	local := rpc.NewLocal()
	server.Start(local)
	conn, err := local.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-server.Done() })
	tries := &atomic.Int32{}
	s, err := New(Config{Models: "../../models"}, Deps{
		Runs: rs, Catalog: c, Blobs: blobs, Embedder: embedderv1.NewEmbedderServiceClient(conn), Log: zap.NewNop(),
		Open: func(dir string) (Pipeline, error) {
			p, err := diffusion.Open(dir, diffusion.Config{})
			return crashing{p, tries}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, s.Close()); err != nil {
			t.Error(err)
		}
	})
	var names []string
	for _, class := range []string{"cat", "ship"} {
		r, err := s.RenderSet(t.Context(), &generatorv1.RenderSetRequest{
			SetId: class + "s", Space: "spaces/s", Classes: []string{class}, PerClass: 2, Source: generatorv1.Source_SOURCE_WORDS, Rendering: &generatorv1.Rendering{Steps: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Run.Name)
	}
	face := runs.Server{Runs: rs}
	ended := func(name string) *runv1.Run {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			r, err := face.GetRun(t.Context(), &runv1.GetRunRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if r.Run.State != runv1.RunState_RUN_STATE_PENDING && r.Run.State != runv1.RunState_RUN_STATE_RUNNING {
				return r.Run
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not end", name)
			}
		}
	}
	if cats := ended(names[0]); cats.State != runv1.RunState_RUN_STATE_FAILED || !strings.Contains(cats.Failure.Message, "attempt 3: ") {
		t.Errorf("cats: %v", cats)
	} else {
		t.Log(cats.Failure.Message)
	}
	if ships := ended(names[1]); ships.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Errorf("ships: %v", ships)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the letter comes after the end
		letters, err := face.ListDeadLetters(t.Context(), &runv1.ListDeadLettersRequest{})
		if err == nil && len(letters.DeadLetters) == 1 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("dead letters %v, %v", letters, err)
		}
	}
	if err := answer(&engine.CrashError{Why: "was killed"}); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("a call gets %v", err)
	}
	if err := answer(fault.New(fault.FailedPrecondition, "poison")); fault.ReasonOf(err) != fault.FailedPrecondition {
		t.Errorf("a call with poison gets %v", err)
	}
}
