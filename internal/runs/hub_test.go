package runs

import (
	"sync"
	"testing"
	"time"
)

// TestWatchersShareAConsumer has many watchers on few runs and one consumer for all.
func TestWatchersShareAConsumer(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	list := []Run{submit(t, s, Spec{}), submit(t, s, Spec{})}
	const each = 40
	var seated, group sync.WaitGroup
	ends := make([][]Event, 2*each)
	for i := range ends {
		seated.Add(1)
		group.Go(func() {
			err := s.Watch(t.Context(), list[i%2].ID, 0, func(e Event) error {
				if ends[i] = append(ends[i], e); len(ends[i]) == 1 {
					seated.Done()
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	seated.Wait()
	consumers := -1
	for deadline := time.Now().Add(5 * time.Second); consumers != 1 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		info, err := s.events.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		consumers = info.State.Consumers // those that read old events go
	}
	if consumers != 1 {
		t.Errorf("%d consumers for %d watchers, want 1", consumers, len(ends))
	}
	for _, run := range list {
		if _, err := s.Cancel(t.Context(), run.ID); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	for i, events := range ends {
		last := events[len(events)-1].Run
		if last.ID != list[i%2].ID || last.State != Cancelled || len(events) != 2 {
			t.Errorf("watcher %d: %d events, the last of %s: %s", i, len(events), last.ID, last.State)
		}
	}
}

// TestSlowWatcher does not look until more has happened than waits for a listener: it gets everything all the same, in
// order and once, and the quick one beside it does not wait.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{})
	goOn := make(chan struct{})
	var group sync.WaitGroup
	var slow, quick []uint64
	watch := func(seen *[]uint64, wait <-chan struct{}) (seated chan struct{}) {
		seated = make(chan struct{})
		group.Go(func() {
			err := s.Watch(t.Context(), run.ID, 0, func(e Event) error {
				if *seen = append(*seen, e.Sequence); len(*seen) == 1 {
					close(seated)
					if wait != nil {
						<-wait
					}
				}
				if e.Run.State.Terminal() && wait == nil {
					close(goOn) // the quick one is through
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		return seated
	}
	<-watch(&slow, goOn)
	<-watch(&quick, nil)
	for range heardMost + 50 {
		changed, err := s.change(t.Context(), run.ID, func(run *Run) error { run.Shards[0].Units++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		s.announce(t.Context(), changed)
	}
	if _, err := s.Cancel(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	for name, seen := range map[string][]uint64{"slow": slow, "quick": quick} {
		if len(seen) != 1+heardMost+50+1 {
			t.Errorf("the %s watcher saw %d events, want %d", name, len(seen), 1+heardMost+50+1)
		}
		for i := 1; i < len(seen); i++ {
			if seen[i] <= seen[i-1] {
				t.Errorf("the %s watcher: event %d after %d", name, seen[i], seen[i-1])
			}
		}
	}
}
