package chaos

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/runs"
)

// passes judges and fails the test where the promise was broken.
func (w *world) passes(plays []play) {
	w.t.Helper()
	v := w.judge(plays)
	records.other(w.t.Name(), v, time.Since(w.began), len(plays))
	if problems := v.problems(); len(problems) > 0 {
		w.t.Errorf("%s", strings.Join(problems, "\n"))
	}
}

// TestZombieProcess stops a worker (SIGSTOP) that holds finished work until its lease has run out and another one has
// the shard, and wakes it. Its commit must be refused although the run goes on.
func TestZombieProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick)
	w.part.Slots = 1
	w.part.Script = []play{{Name: "wanted", Shards: 1, End: runs.Succeeded}}
	zombie := w.start("worker", "shard.worked")
	client := w.start("client")
	w.awaitHit("shard.worked")
	zombie.signal(t, syscall.SIGSTOP)
	other := w.start("worker", "shard.worked")
	if next := w.awaitHit("shard.worked"); next != other {
		t.Fatalf("%s has the shard, want %s", next.name, other.name)
	}
	zombie.goOn()
	zombie.signal(t, syscall.SIGCONT)
	w.eventually("the zombie is told that the shard is another's", func(context.Context) error {
		text, err := os.ReadFile(zombie.log)
		if err == nil && !strings.Contains(string(text), `"outcome": "fenced"`) {
			err = errors.New("it does not know")
		}
		return err
	})
	if run, err := w.runs.Get(t.Context(), w.id("wanted")); err != nil || run.ShardsDone != 0 || run.Shards[0].Attempt != 2 {
		t.Errorf("after the zombie: %+v, %v", run, err)
	}
	other.goOn()
	w.finish(client)
	w.passes(w.part.Script)
}

// TestClocksJump has processes whose clocks are hours off and jump all the time. Leases, order and claims do not
// depend on clocks.
func TestClocksJump(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick)
	for _, skew := range []time.Duration{6 * time.Hour, -6 * time.Hour} {
		w.part.Skew = skew
		w.start("worker")
	}
	w.part.Skew = 3 * time.Hour
	w.finish(w.start("client"))
	w.passes(script)
	for _, p := range script {
		run, err := w.runs.Get(t.Context(), w.id(p.Name))
		if p.Delete || err != nil {
			continue
		}
		for i, shard := range run.Shards { // a lease that a clock had broken would have cost an attempt
			if most := map[string]int{"flaky": 2}[p.Fate]; shard.Attempt > max(1, most) {
				t.Errorf("%s, shard %d: attempt %d", p.Name, i, shard.Attempt)
			}
		}
	}
}

// TestWatcherDoesNotRead has a watcher that stops reading. Neither the run nor another watcher of the same process
// waits for it, and when it reads again it sees the end.
func TestWatcherDoesNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick)
	w.part.Script = slices.Clone(script[:4])
	ids := map[string]string{}
	for _, p := range w.part.Script {
		run, _, err := w.runs.Submit(t.Context(), p.spec())
		if err != nil {
			t.Fatal(err)
		}
		ids[p.Name] = run.ID
		w.accept(p.Name, run.ID)
	}
	release, last := make(chan struct{}), make(chan runs.Run, len(ids))
	for _, id := range ids {
		go func() {
			var run runs.Run
			err := w.runs.Watch(t.Context(), id, 0, func(e runs.Event) error {
				<-release
				run = e.Run
				return nil
			})
			if err != nil {
				t.Errorf("the slow watcher: %v", err)
			}
			last <- run
		}()
	}
	w.start("worker")
	for name, id := range ids {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		events := 0
		err := w.runs.Watch(ctx, id, 0, func(runs.Event) error { events++; return nil })
		cancel()
		if err != nil || events < 3 {
			t.Errorf("%s, watched beside a slow watcher: %d events, %v", name, events, err)
		}
	}
	close(release)
	for range ids {
		if run := <-last; run.State != runs.Succeeded {
			t.Errorf("the slow watcher saw %s at last", run.State)
		}
	}
	w.passes(w.part.Script)
}
