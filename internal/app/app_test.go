package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const models = "../../models"

// TestMain is the engine process too, which the app starts from its own executable.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "engine" {
		if err := ServeEngine(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestValidateReportsEveryProblem(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []string // the flags at fault, in order
	}{
		"all":            {Config{Data: "d", Models: models}, nil},
		"nothing":        {Config{}, []string{"--data", "--models"}},
		"another target": {Config{Target: "teacher", Data: "d"}, []string{"--target", "--nats"}},
		"all of it": {Config{NATS: "nats://x", NATSListen: ":1", Models: "none", Provider: "tpu", Threads: -1},
			[]string{"--data", "--nats-listen", "--models", "--provider", "--threads"}},
		"embedder":            {Config{Target: "embedder", Data: "d", NATS: "n", Models: models}, nil},
		"embedder, alone":     {Config{Target: "embedder", Data: "d"}, []string{"--nats", "--models"}},
		"sampler":             {Config{Target: "sampler", Data: "d", NATS: "n", Embedder: "e:1"}, nil},
		"sampler, alone":      {Config{Target: "sampler", Data: "d", NATS: "n"}, []string{"--embedder"}},
		"generator":           {Config{Target: "generator", Data: "d", NATS: "n", Models: models, Embedder: "e:1", Sampler: "s:1"}, nil},
		"generator, alone":    {Config{Target: "generator", Data: "d", NATS: "n", Models: models}, []string{"--embedder", "--sampler"}},
		"trainer":             {Config{Target: "trainer", Data: "d", NATS: "n", Generator: "g:1", Provider: "openvino"}, nil},
		"trainer, alone":      {Config{Target: "trainer", Data: "d", NATS: "n"}, []string{"--generator"}},
		"models are a file":   {Config{Data: "d", Models: "config.go"}, []string{"--models"}},
		"far too many thread": {Config{Data: "d", Models: models, Threads: 1 << 20}, []string{"--threads"}},
	} {
		err := c.cfg.Validate()
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if len(lines) != len(c.want) {
			t.Errorf("%s: %v, want problems with %q", name, err, c.want)
			continue
		}
		for i, flag := range c.want {
			if !strings.HasPrefix(lines[i], flag+":") && !strings.HasPrefix(lines[i], flag+" ") {
				t.Errorf("%s: problem %q, want one with %s", name, lines[i], flag)
			}
		}
	}
}

func newApp(t *testing.T, cfg Config) *App {
	t.Helper()
	a, err := New(t.Context(), cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestCloseWithoutStart gives everything back, twice in a row: goroutines, the port, and the folder of the queue.
func TestCloseWithoutStart(t *testing.T) {
	cfg := Config{Data: t.TempDir(), Models: models, Listen: "127.0.0.1:0"}
	for range 2 {
		a := newApp(t, cfg)
		cfg.Listen = a.Addr() // the same port for the second one
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
		goleak.VerifyNone(t)
	}
}

func TestNewThatFailsGivesEverythingBack(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := Config{Data: t.TempDir(), Models: models, Listen: taken.Addr().String()}
	if _, err := New(t.Context(), cfg, zaptest.NewLogger(t)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a taken port: %v", err)
	}
	goleak.VerifyNone(t)
	cfg.Listen = ""
	a := newApp(t, cfg)
	defer a.Close()
	if a.Addr() != "" {
		t.Errorf("address %q without a port", a.Addr())
	}
	if _, err := New(t.Context(), cfg, zaptest.NewLogger(t)); !errors.Is(err, bus.ErrLocked) {
		t.Errorf("a second process on one folder: %v", err)
	}
	if _, err := New(t.Context(), Config{}, zaptest.NewLogger(t)); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("the zero configuration: %v", err)
	}
}

func TestServesAllRolesUntilItsContextEnds(t *testing.T) {
	a := newApp(t, Config{Data: t.TempDir(), Models: models, Listen: "127.0.0.1:0"})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	outside, err := rpc.Dial(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	inside, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"", embedderv1.EmbedderService_ServiceDesc.ServiceName, trainerv1.TrainerService_ServiceDesc.ServiceName, runv1.RunService_ServiceDesc.ServiceName} {
		r, err := healthpb.NewHealthClient(outside).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, r, err)
		}
	}
	if r, err := embedderv1.NewEmbedderServiceClient(inside).ListSpaces(t.Context(), &embedderv1.ListSpacesRequest{}); err != nil || len(r.Spaces) != 0 {
		t.Errorf("spaces of a new mesh: %v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := a.Wait(ctx); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("stopped after %s: %v", time.Since(began), err)
	}
	for _, conn := range []interface{ Close() error }{outside, inside} {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := net.Dial("tcp", a.Addr()); err == nil {
		t.Error("it still listens")
	}
}

func TestVocabulariesOfTheReferenceModel(t *testing.T) {
	v := &vocabularies{dir: models, open: map[string]*diffusion.TextEncoder{}}
	t.Cleanup(func() {
		if err := v.close(); err != nil {
			t.Error(err)
		}
	})
	vocabulary, err := v.get(t.Context(), "reference")
	if err != nil {
		t.Fatal(err)
	}
	id, row, err := vocabulary.TokenEmbedding("cat")
	if err != nil || id == 0 || len(row) != 256 {
		t.Errorf("cat: token %d, %d dimensions, %v", id, len(row), err)
	}
	if other, _, err := vocabulary.TokenEmbedding("dog"); err != nil || other == id {
		t.Errorf("dog: token %d, cat: token %d, %v", other, id, err)
	}
	for _, word := range []string{"incomprehensibilities", "two words", ""} {
		if _, _, err := vocabulary.TokenEmbedding(word); err == nil {
			t.Errorf("%q is one token", word)
		}
	}
	for name, says := range map[string]string{"none": filepath.Join("models", "none"), "../models/reference": "no model name", "": "no model name"} {
		if _, err := v.get(t.Context(), name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("model %q: %v", name, err)
		}
	}
}
