package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// perRun is how many shards the runs have whose shards are counted.
const perRun = 64

// shards measures how many shards without work are taken and committed in a second.
func (b bench) shards(ctx context.Context) ([]record.Record, error) {
	var all []record.Record
	for _, c := range b.crews {
		m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20})
		if err != nil {
			return nil, err
		}
		r, err := b.crew(ctx, m, c)
		m.close()
		if err != nil {
			return nil, fmt.Errorf("%d processes of %d slots: %w", c.processes, c.slots, err)
		}
		b.say(r)
		all = append(all, r)
	}
	return all, nil
}

func (b bench) crew(ctx context.Context, m *mesh, c crew) (record.Record, error) {
	connections := []*bus.Bus{m.bus}
	if c.processes > 1 {
		connections = nil
		for range c.processes {
			remote, err := bus.Open(ctx, bus.Config{URL: m.bus.URL()})
			if err != nil {
				return record.Record{}, err
			}
			defer remote.Close()
			connections = append(connections, remote)
		}
	}
	f := floor{js: m.bus.JetStream()}
	ours, peer, err := b.turns(
		func() (float64, error) { return b.drain(ctx, m, c) },
		func() (float64, error) { return f.workQueue(ctx, b.size.shards, c.processes*c.slots, connections) })
	if err != nil {
		return record.Record{}, err
	}
	setting := fmt.Sprintf("runs of %d shards without work, %d slots in the server's process", perRun, c.slots)
	if c.processes > 1 {
		setting = fmt.Sprintf("runs of %d shards without work, %d processes of %d slots", perRun, c.processes, c.slots)
	}
	r := b.more(fmt.Sprintf("shards/%dx%d", c.processes, c.slots), setting, "shards/s", ours, peer, "JetStream: work queue, fetch and double ack only")
	r.Note = fmt.Sprintf("%.2f ms a shard and slot", 1e3*float64(c.processes*c.slots)/ours)
	return r, nil
}

// drain fills the queue, lets the crew empty it, and returns shards per second.
func (b bench) drain(ctx context.Context, m *mesh, c crew) (float64, error) {
	var ids []string
	for left := b.size.shards; left > 0; left -= perRun {
		run, err := m.submit(ctx, min(perRun, left), payload)
		if err != nil {
			return 0, err
		}
		ids = append(ids, run.ID)
	}
	var gang gang
	defer gang.kill()
	if c.processes > 1 {
		for range c.processes {
			if _, err := gang.start(orders{URL: m.bus.URL(), Slots: c.slots, Hold: true}); err != nil {
				return 0, err
			}
		}
		if err := gang.ready(); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	if c.processes > 1 {
		gang.release()
	} else {
		stop := m.serve(runs.Worker{Kind: kind, Concurrency: c.slots, Work: empty})
		defer func() { _ = stop() }()
	}
	if err := m.await(ctx, ids); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	for i, id := range ids {
		if err := m.check(ctx, []string{id}, min(perRun, b.size.shards-i*perRun)); err != nil {
			return 0, err
		}
	}
	return float64(b.size.shards) / took.Seconds(), nil
}

// empty is the work of a shard that has none.
func empty(_ context.Context, t *runs.Task) ([]byte, error) { return []byte(result(t.Shard)), nil }
