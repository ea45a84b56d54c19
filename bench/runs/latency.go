package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/runs"
)

// slots of the workers that latencies are measured with.
const latencySlots = 16

// skip begins the payload of runs whose shards take no time.
const skip = "large"

// latencies measures the time from the call of Submit to the beginning of the work, with nothing to do and with half
// of the slots busy.
func (b bench) latencies(ctx context.Context) ([]record.Record, error) {
	m, err := b.open(ctx, runs.Config{})
	if err != nil {
		return nil, err
	}
	defer m.close()
	f := floor{js: m.bus.JetStream()}
	peer, err := f.handover(ctx, b.samples)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	var began sync.Map // submission → time
	stop := m.serve(runs.Worker{Kind: kind, Concurrency: latencySlots, Work: func(ctx context.Context, t *runs.Task) ([]byte, error) {
		now := time.Now()
		if _, later := began.LoadOrStore(string(t.Run.Payload), now); later || strings.HasPrefix(string(t.Run.Payload), `"`+skip) {
			return nil, nil
		}
		return nil, pass(ctx, b.busy)
	}})
	defer func() { _ = stop() }()
	var all []record.Record
	for _, load := range []struct {
		name string
		gap  time.Duration // mean time between submissions
	}{{"idle", b.busy * 5 / 4}, {"half-busy", 2 * b.busy / latencySlots}} {
		took, err := b.starts(ctx, m, &began, load.name, load.gap)
		if err != nil {
			return nil, err
		}
		setting := fmt.Sprintf("%d runs of one shard of %s, %d slots, Poisson arrivals every %s", len(took), b.busy, latencySlots, load.gap)
		for _, q := range []float64{0.5, 0.95, 0.99} {
			r := b.less(fmt.Sprintf("latency/%s/p%.0f", load.name, 100*q), setting, "ms from submit to start", quantile(took, q), quantile(peer, q),
				"JetStream: publish to a waiting fetch, idle")
			r.Runs = 1
			b.say(r)
			all = append(all, r)
		}
	}
	took, err := b.firsts(ctx, m, &began)
	if err != nil {
		return nil, err
	}
	setting := fmt.Sprintf("%d runs of %d shards without work, one after the other, %d slots", len(took), largeRun, latencySlots)
	for _, q := range []float64{0.5, 0.95} {
		r := b.less(fmt.Sprintf("latency/large/p%.0f", 100*q), setting, "ms from submit to the start of the first shard", quantile(took, q), quantile(peer, q),
			"JetStream: publish to a waiting fetch, idle")
		r.Runs = 1
		b.say(r)
		all = append(all, r)
	}
	return all, nil
}

// largeRun is the shards of a run whose first one is waited for.
const largeRun = 256

// firsts submits large runs, each after the end of the one before, and returns how long each waited for the start of the
// first of its shards, in milliseconds.
func (b bench) firsts(ctx context.Context, m *mesh, began *sync.Map) ([]float64, error) {
	var took []float64
	for i := range max(b.samples/10, 2) {
		key := strconv.Quote(skip + strconv.Itoa(i))
		submitted := time.Now()
		run, err := m.submit(ctx, largeRun, key)
		if err != nil {
			return nil, err
		}
		if err := m.await(ctx, []string{run.ID}); err != nil {
			return nil, err
		}
		at, ok := began.Load(key)
		if !ok {
			return nil, fmt.Errorf("run %s ended without its work", run.ID)
		}
		took = append(took, ms(at.(time.Time).Sub(submitted)))
	}
	return took, nil
}

// starts submits runs at random times and returns how long each waited for its start, in milliseconds.
func (b bench) starts(ctx context.Context, m *mesh, began *sync.Map, name string, gap time.Duration) ([]float64, error) {
	random := rand.New(rand.NewPCG(1, 2))
	var group sync.WaitGroup
	n := b.samples
	submitted, ids, failures := make([]time.Time, n), make([]string, n), make([]error, n)
	key := func(i int) string { return strconv.Quote(name + strconv.Itoa(i)) }
	for i := range n {
		if err := pass(ctx, time.Duration(random.ExpFloat64()*float64(gap))); err != nil {
			return nil, err
		}
		group.Go(func() {
			submitted[i] = time.Now()
			run, err := m.submit(ctx, 1, key(i))
			ids[i], failures[i] = run.ID, err
		})
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	if err := m.await(ctx, ids); err != nil {
		return nil, err
	}
	took := make([]float64, n)
	for i := range took {
		at, ok := began.Load(key(i))
		if !ok {
			return nil, fmt.Errorf("run %s ended without its work", ids[i])
		}
		took[i] = ms(at.(time.Time).Sub(submitted[i]))
	}
	return took, nil
}

// pass waits.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// quantile of values, which it sorts: the least that is at least so many of them.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
