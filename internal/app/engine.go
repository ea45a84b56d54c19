package app

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/engine"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/services/generator"
)

// Where the generator's models are: in this process, or in one that it supervises.
const (
	EngineInline  = "inline"
	EngineProcess = "process"
)

// engineOf is the choice for a provider: what uses CUDA may end its process.
func engineOf(provider string) string {
	if slices.Contains([]string{"cuda", "tensorrt"}, provider) {
		return EngineProcess
	}
	return EngineInline
}

// pipeline is how the generator's models run.
func (a *App) pipeline() diffusion.Config {
	cfg := onnx.Config{Provider: a.cfg.Provider, Threads: a.cfg.Threads}
	if a.cfg.Precision == "bf16" {
		cfg.Precision = a.cfg.Precision
	}
	if cfg.Provider == "tensorrt" {
		cfg.Engines = filepath.Join(a.cfg.Data, "tensorrt")
	}
	return diffusion.Config{ONNX: cfg, Batch: a.cfg.Batch, Lanes: a.cfg.Lanes, Untouched: a.cfg.Untouched, Profiles: Profiles(a.cfg.Data), Loop: cfg.Provider == "cuda"} // TensorRT does not take the loop's graph
}

// Profiles is the file of what dreamood bench generator measured, in a data folder.
func Profiles(data string) string { return filepath.Join(data, "generator-profiles.json") }

// opener opens models for the generator: nil where they are in this process.
func (a *App) opener() (func(dir string) (generator.Pipeline, error), error) {
	if a.cfg.Engine != EngineProcess {
		return nil, nil
	}
	s, err := engine.New(engine.Config{
		Output: os.Stderr, Pipeline: a.pipeline(), MaxPictures: a.cfg.EnginePictures, MaxBytes: int64(a.cfg.EngineMemory) << 20,
		Replace: engineOf(a.cfg.Provider) == EngineProcess, Log: a.log,
	})
	if err != nil {
		return nil, err
	}
	a.engine.Store(s)
	a.closers = append(a.closers, s.Close)
	return func(dir string) (generator.Pipeline, error) { return s.Open(dir) }, nil
}

// ServeEngine is the engine process of another one, which started it. It returns when that one ends.
func ServeEngine() error {
	return engine.Serve(func(dir string, cfg diffusion.Config) (engine.Model, error) { return diffusion.Open(dir, cfg) })
}
