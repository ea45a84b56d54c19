package runs

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Observer hears what happens to the runs that this process works on; package telemetry counts it. Kinds, stages,
// outcomes and states are each a handful of names. Its methods are called from many goroutines and must not block.
type Observer interface {
	// Attempt has ended, as its log line says: "done", "retry", "failed", "given back", "paused", "fenced", "ended", …
	Attempt(kind, outcome string)
	// Stage took so long: "queue" from the message to its first delivery; "claim", "work", "commit", "finish" and "ack"
	// of a shard; and the parts that the work itself names (package stage), with what they did.
	Stage(kind, stage string, took time.Duration, count int64)
	// Units were committed with a shard.
	Units(kind string, units int64)
	// State is one that this process wrote into a run's document.
	State(kind, state string)
}

type noObserver struct{}

func (noObserver) Attempt(string, string)                     {}
func (noObserver) Stage(string, string, time.Duration, int64) {}
func (noObserver) Units(string, int64)                        {}
func (noObserver) State(string, string)                       {}

// Activity is the work of one kind under way in this process.
type Activity struct {
	Kind   string
	Shards int
	// Quiet is how long the quietest of them has not reported anything new.
	Quiet time.Duration
}

// activity is what is known of one attempt under way.
type activity struct {
	kind  string
	heard atomic.Int64 // when it was last heard of, in Unix nanoseconds
}

func (a *activity) touch() { a.heard.Store(time.Now().UnixNano()) }

// begin enters an attempt into what is under way, and end takes it out.
func (s *Service) begin(kind string) (a *activity, end func()) {
	a = &activity{kind: kind}
	a.touch()
	s.active.Store(a, true)
	return a, func() { s.active.Delete(a) }
}

// Activity is the work under way in this process, by kind.
func (s *Service) Activity() []Activity {
	now, found := time.Now(), map[string]*Activity{}
	s.active.Range(func(key, _ any) bool {
		a := key.(*activity)
		if found[a.kind] == nil {
			found[a.kind] = &Activity{Kind: a.kind}
		}
		of := found[a.kind]
		of.Shards++
		of.Quiet = max(of.Quiet, now.Sub(time.Unix(0, a.heard.Load())))
		return true
	})
	var list []Activity
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		list = append(list, *found[kind])
	}
	return list
}
