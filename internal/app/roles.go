package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
	"github.com/dreamood/dreamood/services/embedder"
	"github.com/dreamood/dreamood/services/generator"
	"github.com/dreamood/dreamood/services/sampler"
	"github.com/dreamood/dreamood/services/trainer"
)

// kinds are the queues of the mesh; every process makes them, so that a worker may come before its first run.
var kinds = []string{embedder.KindTrainSpace, sampler.KindSampleSet, generator.KindRenderSet, trainer.KindTrainDetector, trainer.KindEvaluateDetector}

// checkpoints is the folder of unfinished trainings.
func (a *App) checkpoints() string { return filepath.Join(a.cfg.Data, "checkpoints") }

// build makes the roles of this process.
func (a *App) build() error {
	engine := onnx.Config{Provider: a.cfg.Provider, Threads: a.cfg.Threads}
	roots := dataset.Roots(a.cfg.Datasets)
	checkpoints := a.checkpoints()
	peer := a.peers()
	for _, make := range []struct {
		name string
		role func() (role, error)
	}{
		{"embedder", func() (role, error) {
			v := &vocabularies{dir: a.cfg.Models, cfg: onnx.Config{Threads: 1}, open: map[string]*diffusion.TextEncoder{}}
			a.closers = append(a.closers, v.close)
			return embedder.New(embedder.Config{Checkpoints: checkpoints, ONNX: engine}, embedder.Deps{
				Runs: a.runs, Catalog: a.catalog, Blobs: a.blobs, Datasets: roots, Vocabulary: v.get, Log: a.log,
			})
		}},
		{"sampler", func() (role, error) {
			conn, err := peer("embedder", a.cfg.Embedder)
			if err != nil {
				return nil, err
			}
			return sampler.New(sampler.Config{}, sampler.Deps{
				Runs: a.runs, Catalog: a.catalog, Blobs: a.blobs, Embedder: embedderv1.NewEmbedderServiceClient(conn), Log: a.log,
			})
		}},
		{"generator", func() (role, error) {
			e, err := peer("embedder", a.cfg.Embedder)
			if err != nil {
				return nil, err
			}
			s, err := peer("sampler", a.cfg.Sampler)
			if err != nil {
				return nil, err
			}
			open, err := a.opener()
			if err != nil {
				return nil, err
			}
			deps := generator.Deps{
				Runs: a.runs, Catalog: a.catalog, Blobs: a.blobs, Datasets: roots, Log: a.log, Open: open, Free: a.free,
				Embedder: embedderv1.NewEmbedderServiceClient(e), Sampler: samplerv1.NewSamplerServiceClient(s),
			}
			if a.cfg.Trainer != "" || a.cfg.has("trainer") {
				t, err := peer("trainer", a.cfg.Trainer)
				if err != nil {
					return nil, err
				}
				deps.Trainer = trainerv1.NewTrainerServiceClient(t)
			}
			g, err := generator.New(generator.Config{Models: a.cfg.Models, ShardSize: a.cfg.ShardSize, Checkpoints: checkpoints, Version: a.cfg.Version, Pipeline: a.pipeline(), Limits: a.cfg.Limits}, deps)
			if err == nil {
				a.generator.Store(g)
				a.closers = append(a.closers, g.Close)
				a.generator.Store(g)
			}
			return g, err
		}},
		{"trainer", func() (role, error) {
			g, err := peer("generator", a.cfg.Generator)
			if err != nil {
				return nil, err
			}
			t, err := trainer.New(trainer.Config{Checkpoints: checkpoints, ONNX: engine}, trainer.Deps{
				Runs: a.runs, Catalog: a.catalog, Blobs: a.blobs, Datasets: roots, Log: a.log,
				Generator: generatorv1.NewGeneratorServiceClient(g),
			})
			if err == nil {
				a.trainer.Store(t)
				a.closers = append(a.closers, func() error { t.Close(); return nil })
			}
			return t, err
		}},
	} {
		if !a.cfg.has(make.name) {
			continue
		}
		r, err := make.role()
		if err != nil {
			return err
		}
		a.roles[make.name] = r
	}
	return nil
}

// peers connects to other roles, one connection for each: inside the process where no address is given.
func (a *App) peers() func(role, address string) (*grpc.ClientConn, error) {
	open := map[string]*grpc.ClientConn{}
	return func(role, address string) (*grpc.ClientConn, error) {
		if c := open[role]; c != nil {
			return c, nil
		}
		dial := a.local.Dial
		if address != "" {
			dial = func(more ...grpc.DialOption) (*grpc.ClientConn, error) {
				return a.cfg.Credentials.Dial(address, more...)
			}
		}
		c, err := dial(rpc.Traced(a.cfg.Tracing))
		if err != nil {
			return nil, fmt.Errorf("connect to the %s: %w", role, err)
		}
		open[role] = c
		a.closers = append(a.closers, c.Close)
		return c, nil
	}
}

// vocabularies are the text encoders of diffusion models, for their token tables; each is opened once.
type vocabularies struct {
	dir  string
	cfg  onnx.Config
	mu   sync.Mutex
	open map[string]*diffusion.TextEncoder
}

func (v *vocabularies) get(_ context.Context, model string) (embedder.Vocabulary, error) {
	if !ood.ValidID(model) {
		return nil, fmt.Errorf("%q is no model name", model)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.open[model]; e != nil {
		return vocabulary{e}, nil
	}
	dir := filepath.Join(v.dir, model)
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); err != nil {
		return nil, fmt.Errorf("model %q: %w; put a diffusion model in the Diffusers layout into that folder, or name another", model, err)
	}
	e, err := diffusion.OpenTextEncoder(dir, v.cfg)
	if err != nil {
		return nil, err
	}
	v.open[model] = e
	return vocabulary{e}, nil
}

func (v *vocabularies) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, e := range v.open {
		if err := e.Close(); err != nil {
			return fmt.Errorf("close text encoder of %s: %w", name, err)
		}
	}
	return nil
}

// vocabulary is a text encoder as the embedder sees it.
type vocabulary struct{ *diffusion.TextEncoder }

// TokenEmbedding returns the row of a word that is one token.
func (v vocabulary) TokenEmbedding(word string) (int, []float32, error) {
	ids, err := v.Tokenizer().Tokens(word)
	if err != nil {
		return 0, nil, err
	}
	if len(ids) != 1 {
		return 0, nil, fmt.Errorf("the word %q is %d tokens of the model, not one", word, len(ids))
	}
	row, err := v.TextEncoder.TokenEmbedding(ids[0])
	return int(ids[0]), row, err
}
