// Package gc removes what nothing names any more: blobs of deleted resources and of runs that came to nothing, and
// check-points of runs that are over.
//
// A blob is live when one of these names it: a document of the catalog, also one that was replaced or deleted within
// the grace; a run that has not ended, that failed or was cancelled (it may be retried), or that succeeded within the
// grace; or a document that such a run has stored as its result. The runs are read before the catalog, so what moves from
// a run into the catalog meanwhile is seen in one of them. When anything cannot be read, nothing is removed.
package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/runs"
)

// Config of a Collector. The zero value is usable.
type Config struct {
	Every       time.Duration // between two collections of the whole mesh; default 6 hours
	Grace       time.Duration // see artifact.Sweep; default 24 hours
	Checkpoints string        // folder of check-points, RUN.ckpt; "" has none
	Bucket      string        // of the lease; default "dreamood-gc"
	Replicas    int           // copies of it in a NATS cluster; default 1
}

// Store is a store of blobs that can be swept.
type Store interface {
	artifact.Store
	Sweep(context.Context, artifact.Sweep) (artifact.Swept, error)
}

// Deps are what a Collector works with; all are required.
type Deps struct {
	JS      jetstream.JetStream
	Runs    *runs.Service
	Catalog *catalog.Catalog
	Blobs   Store
	Log     *zap.Logger
}

// Collector collects garbage, by itself and when it is told.
type Collector struct {
	cfg   Config
	deps  Deps
	lease jetstream.KeyValue // its one key is there for Every after a collection began
}

// Report says what a collection did.
type Report struct {
	artifact.Swept
	Checkpoints artifact.Amount // removed
}

func (c Config) withDefaults() Config {
	if c.Every == 0 {
		c.Every = 6 * time.Hour
	}
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	if c.Bucket == "" {
		c.Bucket = "dreamood-gc"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	return c
}

// New makes the bucket of the lease where it is missing.
func New(ctx context.Context, cfg Config, deps Deps) (*Collector, error) {
	cfg = cfg.withDefaults()
	if cfg.Every < time.Second || cfg.Grace < 0 {
		return nil, fmt.Errorf("collect garbage every %s with a grace of %s: want at least 1s, and 0 or more", cfg.Every, cfg.Grace)
	}
	lease, err := deps.JS.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Bucket, Description: "dreamood: who collects garbage", TTL: cfg.Every, Replicas: cfg.Replicas,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket of the garbage collection: %w", err)
	}
	return &Collector{cfg, deps, lease}, nil
}

// Run collects until ctx ends: in each span of Every one process of the mesh does, whichever asks first. The bucket
// forgets the lease by the server's clock, so a process that dies in the middle keeps nobody from the next one. Two at
// once, after a change of Every for example, do no harm.
func (c *Collector) Run(ctx context.Context, process string) {
	for tick := time.NewTicker(max(c.cfg.Every/20, 100*time.Millisecond)); ; {
		if err := c.turn(ctx, process); err != nil && ctx.Err() == nil {
			c.deps.Log.Warn("collect garbage", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// turn collects when it is time and no other process does.
func (c *Collector) turn(ctx context.Context, process string) error {
	_, err := c.lease.Create(ctx, "pass", []byte(process))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take the lease: %w", err)
	}
	_, err = c.Collect(ctx, c.cfg.Grace, false)
	return err
}

// Collect removes what nothing names; a dry run only counts. What cannot be removed is in the error, and the rest is
// done.
func (c *Collector) Collect(ctx context.Context, grace time.Duration, dryRun bool) (Report, error) {
	began := time.Now()
	m, err := c.mark(ctx, grace)
	if err != nil {
		return Report{}, fmt.Errorf("nothing was removed, as not everything that is named could be read: %w", err)
	}
	var r Report
	r.Swept, err = c.deps.Blobs.Sweep(ctx, artifact.Sweep{Grace: grace, DryRun: dryRun, Live: m.live})
	var more error
	r.Checkpoints, more = c.checkpoints(ctx, m, grace, dryRun)
	if !dryRun {
		c.deps.Log.Info("garbage collected", zap.Int64("live", r.Live.Blobs), zap.Int64("young", r.Young.Blobs), zap.Int64("trashed", r.Trashed.Blobs),
			zap.Int64("recalled", r.Recalled.Blobs), zap.Int64("removed", r.Removed.Blobs), zap.Int64("removed_bytes", r.Removed.Bytes),
			zap.Int64("checkpoints", r.Checkpoints.Blobs), zap.Duration("took", time.Since(began)))
	}
	return r, errors.Join(err, more)
}
