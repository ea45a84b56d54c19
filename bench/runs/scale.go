package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/runs"
)

// plan of the simulated scale.
type plan struct {
	processes, slots int // slots per process
	runs, shards     int // shards per run
	median           time.Duration
	spread           float64       // of the logarithm
	every            time.Duration // between the starts of two processes
	ackWait          time.Duration // of the runs; 0 is the default
}

// fakeWork says how long the shards of a run take: a log-normal time that depends on the seed and the shard only.
type fakeWork struct {
	Seed   uint64  `json:"seed"`
	Median float64 `json:"median"` // seconds
	Spread float64 `json:"spread"`
}

func (w fakeWork) seconds(shard int) float64 {
	return w.Median * math.Exp(w.Spread*rand.New(rand.NewPCG(w.Seed, uint64(shard))).NormFloat64())
}

// fake takes its time and reports 32 pictures one by one.
func fake(ctx context.Context, t *runs.Task) ([]byte, error) {
	var w fakeWork
	if err := json.Unmarshal(t.Run.Payload, &w); err != nil {
		return nil, runs.Drop(err)
	}
	picture := time.Duration(w.seconds(t.Shard) * float64(time.Second) / shardSize)
	for i, next := 0, time.Now(); i < shardSize; i++ {
		next = next.Add(picture)
		if err := pass(ctx, time.Until(next)); err != nil {
			return nil, err
		}
		t.Report(int64(i+1), shardSize, "rendering")
	}
	return []byte(result(t.Shard)), nil
}

// scale lets workers come and go: all of them from none and back to none, without accidents and with a third of them
// killed on the way. Efficiency is the time of the ideal schedule over the measured time.
func (b bench) scale(ctx context.Context) ([]record.Record, error) {
	var all []record.Record
	for _, killed := range []int{0, (b.size.scale.processes + 1) / 3} {
		r, err := b.season(ctx, b.size.scale, killed)
		if err != nil {
			return nil, err
		}
		b.say(r)
		all = append(all, r)
	}
	return all, nil
}

// season submits the work, starts the workers one after another, kills some of them when half of the ideal time is
// over, and stops the others at the end.
func (b bench) season(ctx context.Context, p plan, killed int) (record.Record, error) {
	m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20, AckWait: p.ackWait})
	if err != nil {
		return record.Record{}, err
	}
	defer m.close()
	var ids []string
	var durations []float64
	for i := range p.runs {
		w := fakeWork{Seed: uint64(i + 1), Median: p.median.Seconds(), Spread: p.spread}
		body, err := json.Marshal(w)
		if err != nil {
			return record.Record{}, err
		}
		run, err := m.submit(ctx, p.shards, string(body))
		if err != nil {
			return record.Record{}, err
		}
		ids = append(ids, run.ID)
		for shard := range p.shards {
			durations = append(durations, w.seconds(shard))
		}
	}
	var g gang
	defer g.kill()
	begin := time.Now()
	slots, err := b.shift(ctx, m, &g, p, killed, durations, begin)
	if err != nil {
		return record.Record{}, err
	}
	if err := m.await(ctx, ids); err != nil {
		return record.Record{}, err
	}
	measured := time.Since(begin).Seconds()
	for _, worker := range g.members {
		worker.end(syscall.SIGTERM)
	}
	if err := m.check(ctx, ids, p.shards); err != nil {
		return record.Record{}, err
	}
	best, waste := ideal(durations, slots)
	late := slices.Clone(slots)
	for i := range late {
		late[i].from = g.members[i/p.slots].ready.Sub(begin).Seconds()
	}
	connected, _ := ideal(durations, late)
	name, note := "scale/0-%d-0", fmt.Sprintf("efficiency %.1f %%; of the missing %.2f s the start of processes takes %.2f s", 100*best/measured, measured-best, connected-best)
	if killed > 0 {
		name = "scale/0-%d-0-killed"
		note += fmt.Sprintf("; %d of %d processes killed with kill -9 half-way, %.0f s of work lost with them", killed, p.processes, waste)
	}
	r := b.less(fmt.Sprintf(name, p.processes*p.slots),
		fmt.Sprintf("%d shards of about %s, %d processes of %d slots on this machine, one started every %s", len(durations), p.median, p.processes, p.slots, p.every),
		"s", measured, best, "ideal schedule: the same slots at the same times, nothing else takes time")
	r.Note, r.Runs = note, 1
	return r, nil
}

// shift starts and kills the workers and returns the slots as they were there.
func (b bench) shift(ctx context.Context, m *mesh, g *gang, p plan, killed int, durations []float64, begin time.Time) ([]slot, error) {
	var slots []slot
	for i := range p.processes {
		if err := pass(ctx, time.Until(begin.Add(time.Duration(i)*p.every))); err != nil {
			return nil, err
		}
		worker, err := g.start(orders{URL: m.bus.URL(), Slots: p.slots, Fake: true, AckWait: p.ackWait})
		if err != nil {
			return nil, err
		}
		for range p.slots {
			slots = append(slots, slot{from: worker.started.Sub(begin).Seconds(), until: math.Inf(1)})
		}
	}
	if err := g.ready(); err != nil {
		return nil, err
	}
	if killed == 0 {
		return slots, nil
	}
	best, _ := ideal(durations, slots)
	if err := pass(ctx, time.Until(begin.Add(time.Duration(best/2*float64(time.Second))))); err != nil {
		return nil, err
	}
	for i, worker := range g.members[:killed] {
		worker.end(os.Kill)
		for k := range p.slots {
			slots[i*p.slots+k].until = time.Since(begin).Seconds()
		}
	}
	return slots, nil
}
