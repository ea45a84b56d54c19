// Package generator is the role that decodes embeddings to pictures with a diffusion model (Dream-OOD, stage 3): the
// class's word in the prompt gets the sampled embedding in place of its own. It streams pictures at once, and renders
// whole sets from the work queue.
package generator

import (
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// Config of the role. The zero value is usable but for Models.
type Config struct {
	Models    string // folder with one folder per diffusion model
	Model     string // where neither request nor space names one; default "reference"
	Workers   int    // shards rendered at once; default 1: one picture batch fills the CPU or GPU
	ShardSize int    // pictures per shard, when a set is not so large that it needs larger ones; 0: by measured speed
	Pipeline  diffusion.Config
	Limits    Limits

	Version     string // of the program, that records name
	Checkpoints string // folder of what shards under way have; "" keeps nothing
}

func (c Config) withDefaults() Config {
	if c.Model == "" {
		c.Model = "reference"
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Models == "" {
		errs = append(errs, errors.New("models: no folder was given"))
	}
	if c.Workers < 0 {
		errs = append(errs, fmt.Errorf("workers: %d; want 1 or more", c.Workers))
	}
	if c.ShardSize < 0 {
		errs = append(errs, fmt.Errorf("shard size: %d; want 0 or more", c.ShardSize))
	}
	return errors.Join(append(errs, c.Limits.Validate())...)
}

// Defaults of Rendering, see generator.proto.
const (
	defaultSteps    = 20
	defaultGuidance = 3
	defaultPrompt   = "A high-quality image of the {}"
)
