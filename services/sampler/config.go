package sampler

import (
	"errors"
	"fmt"
)

// Config of the role. The zero value is usable.
type Config struct {
	Prepared int // classes whose bank and boundary are kept in memory; default 64
}

func (c Config) withDefaults() Config {
	if c.Prepared == 0 {
		c.Prepared = 64
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Prepared < 0 {
		errs = append(errs, fmt.Errorf("prepared: %d; want 1 or more", c.Prepared))
	}
	return errors.Join(errs...)
}
