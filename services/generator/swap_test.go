package generator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/modelstore"
	"github.com/dreamood/dreamood/internal/onnx"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

const tinyModel = "../../internal/diffusion/testdata/tiny"

// watched is a pipeline that tells when it is closed.
type watched struct {
	Pipeline
	closed func()
}

func (w *watched) Close() error {
	w.closed()
	return w.Pipeline.Close()
}

// shelf is a folder with a model called sd, and what happened to it.
type shelf struct {
	*models
	dir    string
	mu     sync.Mutex
	closed int
	events []change
	freed  chan struct{} // one for each model that is closed
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	if err := onnx.Open(""); err != nil {
		t.Fatal(err)
	}
	s := &shelf{dir: t.TempDir(), freed: make(chan struct{}, 10)}
	if err := os.CopyFS(filepath.Join(s.dir, "sd"), os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	s.models = newModels(s.dir, func(dir string) (Pipeline, error) {
		p, err := diffusion.Open(dir, diffusion.Config{ONNX: onnx.Config{Threads: 1}})
		if err != nil {
			return nil, err
		}
		return &watched{p, func() {
			s.mu.Lock()
			s.closed++
			s.mu.Unlock()
			s.freed <- struct{}{}
		}}, nil
	})
	s.tell = func(_ string, c change) { s.events = append(s.events, c) }
	t.Cleanup(func() { s.close() })
	return s
}

func (s *shelf) edit(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "sd", filepath.FromSlash(name)), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// look is what two looks of the watch do: the second finds the files settled.
func (s *shelf) look(t *testing.T) {
	s.refresh(t.Context())
	s.refresh(t.Context())
}

// TestReplacedModelsAreSwapped: who has the old one keeps it to the end, others get the new one.
func TestReplacedModelsAreSwapped(t *testing.T) {
	s := newShelf(t)
	rendering, done := context.WithCancel(t.Context())
	old, err := s.get(rendering, "sd")
	if err != nil {
		t.Fatal(err)
	}
	if st := s.status("sd"); st.state != ready || st.Width != 32 || st.PictureHeight != 16 || st.digest == "" || st.since.IsZero() {
		t.Errorf("%+v", st)
	}
	s.look(t)
	if len(s.events) != 1 || s.events[0].what != "loaded" {
		t.Fatalf("an unchanged model was loaded again: %+v", s.events)
	}
	s.edit(t, "scheduler/scheduler_config.json", `{"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction"}`)
	s.refresh(t.Context())
	if len(s.events) != 1 {
		t.Error("files that may still be written were loaded")
	}
	s.refresh(t.Context())
	if len(s.events) != 2 || s.events[1].what != "replaced" || s.events[1].digest == s.events[0].digest {
		t.Fatalf("%+v", s.events)
	}
	now, err := s.get(t.Context(), "sd")
	if err != nil || now == old {
		t.Fatalf("the old model is still given out, %v", err)
	}
	if st := s.status("sd"); st.Prediction != "v_prediction" || st.state != ready {
		t.Errorf("%+v", st)
	}
	if _, err := old.Render(rendering, []diffusion.Item{{Prompt: "a dog"}}, diffusion.Options{Steps: 2}); err != nil || s.closed != 0 {
		t.Errorf("the old model under way: %v, %d closed", err, s.closed)
	}
	done()
	select { // its end is noticed by another goroutine
	case <-s.freed:
	case <-time.After(time.Minute):
		t.Error("the old model is not closed after its last use")
	}
}

// TestBrokenReplacementsKeepTheOld says so, and comes back when the files are mended.
func TestBrokenReplacementsKeepTheOld(t *testing.T) {
	s := newShelf(t)
	before, err := s.get(t.Context(), "sd")
	if err != nil {
		t.Fatal(err)
	}
	digest := s.status("sd").digest
	whole, err := os.ReadFile(filepath.Join(s.dir, "sd", "unet", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	s.edit(t, "unet/model.onnx", string(whole[:len(whole)/2]))
	s.look(t)
	s.look(t) // not tried again
	if len(s.events) != 2 || s.events[1].err == nil || !strings.Contains(s.events[1].err.Error(), "unet") {
		t.Fatalf("%+v", s.events)
	}
	if p, err := s.get(t.Context(), "sd"); err != nil || p != before {
		t.Errorf("the old one does not serve: %v", err)
	}
	st := s.status("sd")
	if st.state != stale || st.digest != digest || st.problem == nil || s.states()[stale] != 1 {
		t.Errorf("%+v", st)
	}
	m := modelMessage("sd", st)
	if m.State != generatorv1.ModelState_MODEL_STATE_STALE || !strings.Contains(m.Problem, "model.onnx") || m.LoadTime == nil || m.Precision != "float32" {
		t.Errorf("%v", m)
	}
	s.edit(t, "unet/model.onnx", string(whole))
	s.look(t)
	if st := s.status("sd"); st.state != ready || st.problem != nil {
		t.Errorf("mended: %+v", st)
	}
}

// TestModelsThatCannotBeUsed are listed with the reason, and do not hide the others.
func TestModelsThatCannotBeUsed(t *testing.T) {
	s := newShelf(t)
	if st := s.status("sd"); st.state != available || st.Width != 32 || st.Bytes < 1_000_000 || len(st.digest) != 64 {
		t.Errorf("not loaded: %+v", st)
	}
	if len(s.events) != 0 {
		t.Error("to list a model loaded it")
	}
	s.edit(t, "vae_decoder/config.json", `{"scaling_factor": 0}`)
	if _, err := s.get(t.Context(), "sd"); fault.ReasonOf(err) != fault.FailedPrecondition || !strings.Contains(err.Error(), "scaling_factor") {
		t.Errorf("got %v", err)
	}
	if st := s.status("sd"); st.state != failed && st.state != available || s.states()[failed] != 1 {
		t.Errorf("%+v", st)
	}
	s.edit(t, "vae_decoder/config.json", `{"scaling_factor": 0.5}`)
	if _, err := s.get(t.Context(), "sd"); err != nil {
		t.Errorf("mended: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "sd")); err != nil {
		t.Fatal(err)
	}
	s.look(t)
	if _, err := s.get(t.Context(), "sd"); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("removed: %v", err)
	}
}

// nanPipeline is a model whose numbers are none.
type nanPipeline struct{ Pipeline }

func (nanPipeline) Render(context.Context, []diffusion.Item, diffusion.Options) ([]diffusion.Image, error) {
	return nil, errors.New("it has numbers that are not finite")
}

func TestModelsRenderBeforeTheyServe(t *testing.T) {
	s := newShelf(t)
	open := s.open
	s.open = func(dir string) (Pipeline, error) {
		p, err := open(dir)
		return nanPipeline{p}, err
	}
	if _, err := s.get(t.Context(), "sd"); err == nil || !strings.Contains(err.Error(), "first picture") || s.closed != 1 {
		t.Errorf("got %v, %d closed", err, s.closed)
	}
}

// TestModelsOfTheStore: what dreamood models changes is served without a restart, and what is not as its manifest says
// is not served.
func TestModelsOfTheStore(t *testing.T) {
	s := newShelf(t)
	store := modelstore.Open(s.dir)
	if _, err := store.Add(t.Context(), "kept", tinyModel, modelstore.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.get(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	if st := s.status("kept"); !strings.HasPrefix(st.source, "folder:") {
		t.Errorf("%+v", st)
	}
	s.edit(t, "tokenizer/tokenizer_config.json", `{"model_max_length": 16}`)
	if _, err := store.Add(t.Context(), "kept", filepath.Join(s.dir, "sd"), modelstore.Options{Replace: true}); err != nil {
		t.Fatal(err)
	}
	s.look(t)
	if len(s.events) != 2 || s.events[1].what != "replaced" {
		t.Fatalf("%+v", s.events)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "kept", "vae_decoder", "config.json"), []byte(`{"scaling_factor": 0.6}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look(t)
	if st := s.status("kept"); st.state != stale || !strings.Contains(st.problem.Error(), "manifest") {
		t.Errorf("changed under its manifest: %+v", st)
	}
	if err := store.Remove(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	s.look(t)
	if last := s.events[len(s.events)-1]; last.what != "removed" {
		t.Errorf("%+v", last)
	}
}

// TestManyGetOne loads a model once for all who ask at the same time.
func TestManyGetOne(t *testing.T) {
	s := newShelf(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.get(t.Context(), "sd"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(s.events) != 1 {
		t.Errorf("%+v", s.events)
	}
}
