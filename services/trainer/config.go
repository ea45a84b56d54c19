// Package trainer is the role that trains classifiers regularised by imagined outliers (Dream-OOD, stage 4), measures
// how well they know what they do not know, and scores pictures with them.
package trainer

import (
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/onnx"
)

// Config of the role. The zero value is usable.
type Config struct {
	Checkpoints string      // folder of unfinished trainings; "" keeps none
	Workers     int         // detectors trained at once; default 1
	Detectors   int         // detectors kept in memory for scoring, and whose drift is watched; default 4
	ONNX        onnx.Config // how detectors run and train
}

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Detectors == 0 {
		c.Detectors = 4
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Workers < 0 {
		errs = append(errs, fmt.Errorf("workers: %d; want 1 or more", c.Workers))
	}
	if c.Detectors < 0 {
		errs = append(errs, fmt.Errorf("detectors: %d; want 1 or more", c.Detectors))
	}
	return errors.Join(errs...)
}
