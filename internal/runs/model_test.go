package runs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what is known of the runs of one check, to hold the real ones against.
type model struct {
	s       *Service
	kind    string
	ids     []string
	ended   map[string]State  // once there, it stays
	results map[string]string // of committed shards: once there, it stays
}

// TestModel plays with real runs on a real queue: submit, cancel, pause, resume, retry, processes that die with a shard,
// messages that are lost or come again, deadlines. Whatever happened, every run ends in one state that never changes, a
// committed result never changes, and no message of an ended run is left. More: -rapid.checks=1000.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", "4"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set("rapid.checks", f.DefValue) }()
	}
	cfg := fast
	cfg.AckWait, cfg.Heartbeat, cfg.Backoff, cfg.MaxBackoff = 400*time.Millisecond, 50*time.Millisecond, time.Millisecond, 5*time.Millisecond
	s := mesh(t, cfg)
	var checks, dice atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{s: s, kind: fmt.Sprintf("model-%d", checks.Add(1)), ended: map[string]State{}, results: map[string]string{}}
		stop := serve(t, s, Worker{Kind: m.kind, Concurrency: 2, Work: func(ctx context.Context, task *Task) ([]byte, error) {
			n := dice.Add(1)
			select { // some work is under way when something happens
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(n*7%30) * time.Millisecond):
			}
			switch {
			case n%11 == 0:
				return nil, errFlaky
			case n%23 == 0:
				return nil, Drop(errFlaky)
			}
			return fmt.Appendf(nil, "%d", n), nil // no two attempts give the same
		}})
		defer stop()
		rt.Repeat(map[string]func(*rapid.T){
			"submit": m.submit, "cancel": m.steer(s.Cancel), "pause": m.steer(s.Pause), "resume": m.steer(s.Resume), "retry": m.retry,
			"crash": m.crash, "lose": m.lose, "wait": func(*rapid.T) { time.Sleep(10 * time.Millisecond) }, "": m.look,
		})
		m.settle(rt)
	})
}

func (m *model) some(t *rapid.T) string {
	if len(m.ids) == 0 {
		t.Skip("no runs")
	}
	return rapid.SampledFrom(m.ids).Draw(t, "run")
}

func (m *model) submit(t *rapid.T) {
	spec := Spec{Kind: m.kind, Shards: rapid.IntRange(1, 3).Draw(t, "shards")}
	if rapid.IntRange(0, 4).Draw(t, "deadline") == 0 {
		spec.Options.Deadline = time.Now().Add(100 * time.Millisecond)
	}
	if len(m.ids) > 0 && rapid.IntRange(0, 2).Draw(t, "after") == 0 {
		spec.Options.After = []string{m.some(t)}
	}
	run, _, err := m.s.Submit(context.Background(), spec)
	if errors.Is(err, ErrState) { // after one that has failed
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.ids = append(m.ids, run.ID)
}

func (m *model) steer(f func(context.Context, string) (Run, error)) func(*rapid.T) {
	return func(t *rapid.T) {
		if _, err := f(context.Background(), m.some(t)); err != nil && !errors.Is(err, ErrState) {
			t.Fatal(err)
		}
	}
}

func (m *model) retry(t *rapid.T) {
	run, err := m.s.Retry(context.Background(), m.some(t))
	if errors.Is(err, ErrState) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range m.ids {
		if id == run.ID {
			return
		}
	}
	m.ids = append(m.ids, run.ID)
}

// crash lets a process claim a shard and die: whoever worked on it is fenced off.
func (m *model) crash(t *rapid.T) {
	run, err := m.s.load(context.Background(), m.some(t))
	if err != nil {
		t.Fatal(err)
	}
	shard := rapid.IntRange(0, run.ShardCount-1).Draw(t, "shard")
	_, err = m.s.change(context.Background(), run.ID, func(run *Run) error {
		u := run.unit(shard)
		if run.State.Terminal() || run.State == Paused || len(run.WaitingFor) > 0 || u.Done || u.Attempt >= m.s.cfg.MaxAttempts {
			return errKeep
		}
		u.Claim, u.Worker, u.Pauses = newID(time.Now()), "dead", run.Pauses
		u.Attempt++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lose takes the messages of a run away and has the reconciler put them back.
func (m *model) lose(t *rapid.T) {
	id := m.some(t)
	run, err := m.s.load(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	q, err := m.s.queue(context.Background(), run.Kind)
	if err == nil && !run.State.Terminal() {
		err = q.purge(context.Background(), &run, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.reconcile(t, id)
}

func (m *model) reconcile(t *rapid.T, id string) {
	run, err := m.s.load(context.Background(), id)
	if err == nil && !run.State.Terminal() {
		if _, err = m.s.expire(context.Background(), id); err == nil {
			err = m.s.publishAll(context.Background(), run, "t"+newID(time.Now()))
		}
		if err == nil && len(run.WaitingFor) > 0 {
			err = m.s.advance(context.Background(), id)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// look holds every run against what was seen of it before.
func (m *model) look(t *rapid.T) {
	for _, id := range m.ids {
		run, err := m.s.load(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := m.ended[id]; ok && was != run.State {
			t.Fatalf("run %s was %s and is %s", id, was, run.State)
		}
		if run.State.Terminal() {
			m.ended[id] = run.State
		}
		for i, shard := range run.Shards {
			key := fmt.Sprintf("%s.%d", id, i)
			if was, ok := m.results[key]; ok && (!shard.Done || was != string(shard.Result)) {
				t.Fatalf("shard %s was committed as %s and is %+v", key, was, shard)
			}
			if shard.Done {
				m.results[key] = string(shard.Result)
			} else if run.State == Succeeded {
				t.Fatalf("run %s succeeded without shard %d", id, i)
			}
		}
	}
}

// settle resumes what is paused and waits until every run has ended and its messages are gone. Like the reconciler it
// looks after the lanes, too: a message that its lane does not count is nobody's until then.
func (m *model) settle(t *rapid.T) {
	q, err := m.s.queue(context.Background(), m.kind)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		m.look(t)
		open := 0
		for _, id := range m.ids {
			if m.ended[id] == "" {
				open++
				if _, err := m.s.Resume(context.Background(), id); err != nil && !errors.Is(err, ErrState) {
					t.Fatal(err)
				}
				m.reconcile(t, id)
			}
		}
		if err := q.tend(context.Background()); err != nil {
			t.Fatal(err)
		}
		info, err := q.stream.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if open == 0 && info.State.Msgs == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d runs have not ended, %d messages are left", open, info.State.Msgs)
		}
	}
	for _, id := range m.ids {
		letters, _, err := m.s.DeadLetters(context.Background(), Filter{}, id, 0, "")
		if err != nil || len(letters) > 1 || len(letters) == 1 && m.ended[id] != Failed {
			t.Fatalf("run %s, %s: %d dead letters, %v", id, m.ended[id], len(letters), err)
		}
	}
}
