package runs

import (
	"errors"
	"testing"
	"time"
)

// A claim of a document that is older than what the worker has seen is put off: such a copy may not even have the shard.
func TestClaimOfAnOldCopy(t *testing.T) {
	cfg := fast
	cfg.CommitWait = time.Millisecond // one try
	s := mesh(t, cfg)
	run := submit(t, s, Spec{Shards: 2})
	first, err := s.load(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	d := &delivery{s: s, w: &Worker{Kind: "dream"}, id: run.ID, log: s.log, revision: first.revision + 1}
	changed := false
	a := &attempt{delivery: d, unit: 7, run: Run{ID: run.ID, revision: first.revision + 1}, log: s.log}
	if _, err := a.change(t.Context(), func(*Run, *ShardState) error { changed = true; return nil }); !errors.Is(err, errStale) || changed {
		t.Errorf("a change of an attempt on an old copy: changed %v, %v", changed, err)
	}
	if !unreachable(errStale) {
		t.Error("workers do not try again on an old copy")
	}
}
