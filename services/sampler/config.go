package sampler

import (
	"errors"
	"fmt"
)

// Config of the role. The zero value is usable.
type Config struct {
	Prepared  int // classes whose boundary is kept in memory, ready to be sampled; default 64
	BankBytes int // of banks of whole spaces kept in memory, for what looks at all classes; default 512 MiB
	Workers   int // shards sampled at the same time; default 1, because one uses all cores
	ShardSize int // embeddings per shard, as long as there are not too many shards; default 10000
}

func (c Config) withDefaults() Config {
	if c.Prepared == 0 {
		c.Prepared = 64
	}
	if c.BankBytes == 0 {
		c.BankBytes = 512 << 20
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.ShardSize == 0 {
		c.ShardSize = 10_000
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Prepared < 0 {
		errs = append(errs, fmt.Errorf("prepared: %d; want 1 or more", c.Prepared))
	}
	if c.BankBytes < 0 {
		errs = append(errs, fmt.Errorf("bank bytes: %d; want 1 or more", c.BankBytes))
	}
	if c.Workers < 0 {
		errs = append(errs, fmt.Errorf("workers: %d; want 1 or more", c.Workers))
	}
	if c.ShardSize < 0 {
		errs = append(errs, fmt.Errorf("shard size: %d; want 1 or more", c.ShardSize))
	}
	return errors.Join(errs...)
}
