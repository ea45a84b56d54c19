package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/runs"
)

// watchers measures many watchers at once, on few runs and on as many runs as watchers: what each costs, how soon an
// event reaches it, and how fast old events are replayed.
func (b bench) watchers(ctx context.Context) ([]record.Record, error) {
	var all []record.Record
	for _, runs := range []int{b.few, b.size.watchers} {
		rs, err := b.watch(ctx, runs)
		if err != nil {
			return nil, fmt.Errorf("%d watchers on %d runs: %w", b.size.watchers, runs, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// watch lets the runs work live under the eyes of all watchers, then all watchers replay.
func (b bench) watch(ctx context.Context, count int) ([]record.Record, error) {
	m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20, ReportEvery: 250 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer m.close()
	ids := make([]string, count)
	if _, err := perSecond(count, 8, func(_, i int) error {
		run, err := m.submit(ctx, 1, payload)
		ids[i] = run.ID
		return err
	}); err != nil {
		return nil, err
	}
	audience, err := b.attend(ctx, m, ids)
	if err != nil {
		return nil, err
	}
	stop := m.serve(runs.Worker{Kind: kind, Concurrency: 16, Work: b.show})
	defer func() { _ = stop() }()
	if err := audience.wait(); err != nil {
		return nil, err
	}
	replay, peer, events, err := b.replays(ctx, m, ids)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("watch/%d-on-%d", b.size.watchers, count)
	setting := fmt.Sprintf("%d watchers in one process with its server, %d runs", b.size.watchers, count)
	var all []record.Record
	for _, q := range []float64{0.5, 0.99} {
		r := b.less(fmt.Sprintf("%s/p%.0f", name, 100*q), setting, "ms from the event's time to the watcher", quantile(audience.lag, q), 1000, "one second")
		r.Runs, r.Note = 1, fmt.Sprintf("%d events delivered", len(audience.lag))
		all = append(all, r)
	}
	r := b.less(name+"/memory", setting, "KiB a watcher, server included", audience.memory/1024, 1024, "one MiB")
	r.Runs = 1
	all = append(all, r)
	r = b.more(name+"/replay", setting+fmt.Sprintf(", %d events in all", events), "events/s", replay, peer, "JetStream: a consumer for each, 32 at once, nothing decoded")
	all = append(all, r)
	for _, r := range all {
		b.say(r)
	}
	return all, nil
}

// show is work that reports often enough for an event at every look.
func (b bench) show(ctx context.Context, t *runs.Task) ([]byte, error) {
	for i := range b.events {
		t.Report(int64(i+1), int64(b.events), "drawing")
		if err := pass(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// audience is watchers at work.
type audience struct {
	memory float64 // bytes of each

	mu    sync.Mutex
	lag   []float64 // ms
	err   error
	group sync.WaitGroup
}

func (a *audience) wait() error {
	a.group.Wait()
	return a.err
}

func (a *audience) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
}

// attend starts all watchers and returns when each has seen its first event.
func (b bench) attend(ctx context.Context, m *mesh, ids []string) (*audience, error) {
	before := memory()
	a := &audience{}
	var seated sync.WaitGroup
	for i := range b.size.watchers {
		seated.Add(1)
		a.group.Go(func() {
			var first sync.Once
			defer first.Do(seated.Done)
			err := m.runs.Watch(ctx, ids[i%len(ids)], 0, func(e runs.Event) error {
				now, old := time.Now(), true
				first.Do(func() { seated.Done(); old = false })
				if old {
					a.mu.Lock()
					a.lag = append(a.lag, ms(now.Sub(e.Time)))
					a.mu.Unlock()
				}
				return nil
			})
			if err != nil {
				a.fail(err)
			}
		})
	}
	seated.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	a.memory = (memory() - before) / float64(b.size.watchers)
	return a, nil
}

// replays lets all watchers attach to runs that have ended, in turn with consumers of the same events.
func (b bench) replays(ctx context.Context, m *mesh, ids []string) (ours, peer float64, events int64, err error) {
	n := b.size.watchers
	var delivered atomic.Int64
	ours, peer, err = b.turns(
		func() (float64, error) {
			delivered.Store(0)
			rate, err := perSecond(n, n, func(_, i int) error {
				return m.runs.Watch(ctx, ids[i%len(ids)], 0, func(runs.Event) error { delivered.Add(1); return nil })
			})
			return rate / float64(n) * float64(delivered.Load()), err
		},
		func() (float64, error) {
			var raw atomic.Int64
			rate, err := perSecond(n, min(n, 32), func(_, i int) error { // as many consumers at once as Watch has
				count, err := replayRaw(ctx, m.bus.JetStream(), ids[i%len(ids)])
				raw.Add(count)
				return err
			})
			return rate / float64(n) * float64(raw.Load()), err
		})
	return ours, peer, delivered.Load(), err
}

// replayRaw reads the events of a run as messages.
func replayRaw(ctx context.Context, js jetstream.JetStream, id string) (int64, error) {
	const stream = "dreamood-events"
	c, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		FilterSubject: "dreamood.event." + id, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = js.DeleteConsumer(ctx, stream, c.CachedInfo().Name) }()
	var count int64
	for want := int64(c.CachedInfo().NumPending); count < want; {
		batch, err := c.FetchNoWait(250)
		if err != nil {
			return 0, err
		}
		for range batch.Messages() {
			count++
		}
		if err := batch.Error(); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// memory that this process holds: heap and stacks.
func memory() float64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc + s.StackInuse)
}
