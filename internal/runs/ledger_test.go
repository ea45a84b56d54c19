package runs

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// TestLedgerWritesTogether lets many slots of two processes change one run: no change is lost, and those of one process
// share writes.
func TestLedgerWritesTogether(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	one, two := newService(t, b, fast), newService(t, b, fast)
	run := submit(t, one, Spec{Shards: 64})
	const changes = 40
	var group sync.WaitGroup
	for i := range 64 {
		s := []*Service{one, two}[i%2]
		group.Go(func() {
			for range changes {
				got, err := s.change(t.Context(), run.ID, func(run *Run) error { run.Shards[i].Units++; return nil })
				if err != nil || got.revision <= run.revision {
					t.Errorf("change: revision %d after %d, %v", got.revision, run.revision, err)
				}
			}
		})
	}
	group.Wait()
	got, err := one.load(t.Context(), run.ID)
	if err != nil || got.Progress.Done != 64*changes {
		t.Fatalf("%d of %d changes are in the document, %v", got.Progress.Done, 64*changes, err)
	}
	for i, shard := range got.Shards {
		if shard.Units != changes {
			t.Errorf("shard %d: %d changes of %d", i, shard.Units, changes)
		}
	}
	if writes := got.revision - run.revision; writes > 64*changes/2 {
		t.Errorf("%d writes for %d changes: they were not written together", writes, 64*changes)
	}
}

// TestLedgerBatch has one batch with every fate of a change.
func TestLedgerBatch(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	run := submit(t, s, Spec{Shards: 2})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	refused := errors.New("refused")
	set := func(shard int, units int64, err error) func(*Run) error {
		return func(run *Run) error { run.Shards[shard].Units = units; return err }
	}
	batch := []*entry{
		{ctx: t.Context(), f: set(0, 1, nil)},
		{ctx: over, f: set(1, 2, nil)},
		{ctx: t.Context(), f: set(1, 3, refused)}, // what it had assigned is forgotten
		{ctx: t.Context(), f: set(1, 4, errKeep)},
		{ctx: t.Context(), f: set(0, 5, nil)},
	}
	p := &page{}
	s.ledger.settle(run.ID, p, batch)
	for i, want := range []error{nil, context.Canceled, refused, errKeep, nil} {
		if e := batch[i]; !errors.Is(e.err, want) {
			t.Errorf("change %d: %v, want %v", i, e.err, want)
		}
	}
	for _, i := range []int{0, 3, 4} {
		if got := batch[i].run; got.Shards[0].Units != 5 || got.Shards[1].Units != 0 || got.Progress.Done != 5 {
			t.Errorf("change %d got %+v", i, got)
		}
	}
	if got, err := s.load(t.Context(), run.ID); err != nil || got.Progress.Done != 5 || got.revision != p.known.revision {
		t.Errorf("document: %+v, %v; remembered %+v", got, err, p.known)
	}
}

// TestLedgerMemoryIsNoProof changes a run behind the back of a process that remembers it: what it then writes is built
// on the new document, and what it refuses is refused for what the new document says.
func TestLedgerMemoryIsNoProof(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	here, there := newService(t, b, fast), newService(t, b, fast)
	run := submit(t, here, Spec{Shards: 2})
	bump := func(s *Service, shard int) {
		t.Helper()
		if _, err := s.change(t.Context(), run.ID, func(run *Run) error { run.Shards[shard].Units++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	bump(here, 0)
	bump(there, 1)
	seen := int64(-1)
	_, err := here.change(t.Context(), run.ID, func(run *Run) error { seen = run.Shards[1].Units; return errKeep })
	if err != nil || seen != 1 {
		t.Errorf("decided to keep on what memory says (%d), %v", seen, err)
	}
	bump(there, 1)
	bump(here, 0)
	got, err := there.load(t.Context(), run.ID)
	if err != nil || got.Shards[0].Units != 2 || got.Shards[1].Units != 2 {
		t.Errorf("%+v, %v", got.Shards, err)
	}
}

// TestLedgerForgets holds the memory to its bound.
func TestLedgerForgets(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	for range knownRuns + 8 {
		run := submit(t, s, Spec{})
		if _, err := s.change(t.Context(), run.ID, func(run *Run) error { run.Shards[0].Units = 1; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.ledger.pages); n > knownRuns {
		t.Errorf("%d runs remembered, want at most %d", n, knownRuns)
	}
	run := submit(t, s, Spec{})
	if _, err := s.change(t.Context(), run.ID, func(run *Run) error { run.end(Cancelled, s.now()); return nil }); err != nil {
		t.Fatal(err)
	}
	if s.ledger.pages[run.ID] != nil {
		t.Error("a run that has ended is remembered")
	}
}
