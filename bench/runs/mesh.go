package main

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// kind of all runs here.
const kind = "bench"

// mesh is a server in this process, every acknowledged message synced, and the runs on it.
type mesh struct {
	bus   *bus.Bus
	runs  *runs.Service
	clean func()
}

// open starts a server on a folder of its own, which other processes reach by mesh.bus.URL.
func (b bench) open(ctx context.Context, cfg runs.Config) (*mesh, error) {
	folder, clean, err := b.scratch()
	if err != nil {
		return nil, err
	}
	m := &mesh{clean: clean}
	if m.bus, err = bus.Open(ctx, bus.Config{Dir: folder, Listen: "127.0.0.1:0"}); err != nil {
		clean()
		return nil, err
	}
	if m.runs, err = newRuns(ctx, m.bus, cfg); err != nil {
		m.close()
		return nil, err
	}
	m.runs.Start()
	return m, nil
}

func newRuns(ctx context.Context, b *bus.Bus, cfg runs.Config) (*runs.Service, error) {
	cfg.Kinds = []string{kind}
	log, err := logger()
	if err != nil {
		return nil, err
	}
	return runs.New(ctx, cfg, runs.Deps{JS: b.JetStream(), Log: log})
}

// logger shows warnings only: what goes wrong under load is part of the answer.
func logger() (*zap.Logger, error) {
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	return cfg.Build()
}

func (m *mesh) close() {
	if m.runs != nil {
		m.runs.Close()
	}
	m.bus.Close()
	m.clean()
}

// serve works in this process until the returned stop.
func (m *mesh) serve(w runs.Worker) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var failed error
	group.Go(func() { failed = m.runs.Serve(ctx, w) })
	return func() error {
		cancel()
		group.Wait()
		return failed
	}
}

// payload of a run: about what a request to render takes.
const payload = `{"set_id":"cifar10-outliers","space":"spaces/cifar10","classes":["airplane","automobile","bird","cat","deer","dog",` +
	`"frog","horse","ship","truck"],"per_class":500,"sampling":{"k":100,"select":50,"pick":50,"noises":1500,"sigma":0.1,"keep":2,"seed":7},` +
	`"rendering":{"model":"reference","steps":20,"guidance":5,"scheduler":"DDIM","prompt":"a photo of a {}","seed":7}}`

// submit accepts a run of so many shards.
func (m *mesh) submit(ctx context.Context, shards int, body string) (runs.Run, error) {
	run, _, err := m.runs.Submit(ctx, runs.Spec{Kind: kind, Payload: []byte(body), Shards: shards, Unit: "pictures", Total: int64(32 * shards)})
	return run, err
}

// await returns when all of these runs have succeeded.
func (m *mesh) await(ctx context.Context, ids []string) error {
	failures := make([]error, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		group.Go(func() {
			failures[i] = m.runs.Watch(ctx, id, 0, func(e runs.Event) error {
				if e.Run.State == runs.Failed || e.Run.State == runs.Cancelled {
					return fmt.Errorf("run %s is %s: %+v", id, e.Run.State, e.Run.Failure)
				}
				return nil
			})
		})
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// check reads the runs again and compares what they committed with what their shards return.
func (m *mesh) check(ctx context.Context, ids []string, shards int) error {
	for _, id := range ids {
		run, err := m.runs.Get(ctx, id)
		if err != nil {
			return err
		}
		if run.State != runs.Succeeded || len(run.Shards) != shards || run.ShardsDone != shards {
			return fmt.Errorf("run %s: %s with %d of %d shards", id, run.State, run.ShardsDone, shards)
		}
		for i, shard := range run.Shards {
			if string(shard.Result) != result(i) {
				return fmt.Errorf("run %s, shard %d: result %q, want %q", id, i, shard.Result, result(i))
			}
		}
	}
	return nil
}

// result of a shard: as long as the reference of a blob.
func result(shard int) string { return fmt.Sprintf("sha256:%064x", shard) }
