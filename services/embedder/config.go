// Package embedder is the role that learns text-conditioned embedding spaces (Dream-OOD, stage 1): spaces in which
// a picture lies near the token embedding of its class name in a diffusion model. It keeps their encoders and
// banks, and embeds pictures and names.
package embedder

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/dreamood/dreamood/internal/onnx"
)

// Config of the role. The zero value is usable.
type Config struct {
	Model       string      // diffusion model where a request names none; default "reference"
	Checkpoints string      // folder of unfinished trainings; "" keeps none
	Workers     int         // spaces trained at once; default 1
	Encoders    int         // encoders kept in memory; default 4
	ONNX        onnx.Config // how encoders run and train
}

func (c Config) withDefaults() Config {
	if c.Model == "" {
		c.Model = "reference"
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Encoders == 0 {
		c.Encoders = 4
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Workers < 0 || c.Workers > runtime.NumCPU()*4 {
		errs = append(errs, fmt.Errorf("workers: %d; want 1 to %d", c.Workers, runtime.NumCPU()*4))
	}
	if c.Encoders < 0 {
		errs = append(errs, fmt.Errorf("encoders: %d; want 1 or more", c.Encoders))
	}
	return errors.Join(errs...)
}
