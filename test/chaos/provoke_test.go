package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/internal/runs"
)

// fillQueue fills the queue after the client was told that there is room: its run is withdrawn.
func fillQueue(s *stage) {
	s.t.Helper()
	s.part.Runs.MaxPending = 4
	s.plays = script[:6] // without those that hold the queue until the client has submitted all
	s.part.Script = s.plays
	s.client = s.start("client", "submit.created", s.Point)
	first := s.awaitHit("submit.created")
	own, err := runs.New(s.t.Context(), s.part.Runs, runs.Deps{JS: s.bus.JetStream()})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range s.part.Runs.MaxPending {
		filler := play{Name: fmt.Sprintf("filler-%d", i), Shards: 1, End: runs.Succeeded}
		run, _, err := own.Submit(s.t.Context(), filler.spec())
		if err != nil {
			s.t.Fatal(err)
		}
		s.accept(filler.Name, run.ID)
		s.plays = append(s.plays[:len(s.plays):len(s.plays)], filler)
	}
	first.goOn()
}

// tellToStop sends SIGTERM to a worker in the middle of its work.
func tellToStop(s *stage, fate, line string) {
	s.t.Helper()
	s.with(play{Name: fate, Shards: 1, Fate: fate, After: planned(fate), End: runs.Succeeded})
	s.client = s.start("client")
	worker := s.start("worker", s.Point)
	s.awaitLine(line)
	s.part.Lingered = true // nobody tells the next ones
	worker.signal(s.t, syscall.SIGTERM)
}

// poison kills the worker that takes it, until no attempt is left.
func poison(s *stage, fate string) {
	s.t.Helper()
	s.part.Runs.MaxAttempts = 2
	s.part.Slots = 1                                                                                        // what a worker holds besides loses an attempt, too
	s.plays = slices.DeleteFunc(slices.Clone(s.plays), func(p play) bool { return p.Fate == "flaky-plan" }) // once per process
	s.with(play{Name: fate, Shards: 1, Fate: fate, After: planned(fate), End: runs.Failed})
	s.client = s.start("client")
	for range s.part.Runs.MaxAttempts {
		worker := s.start("worker", s.Point)
		if err := worker.awaitEnd(s.t); err == nil {
			s.t.Fatal("the poison did not kill the worker")
		}
		s.deaths++
	}
	s.start("worker", s.Point)
}

// planned is the run that one has to wait for whose plan this is about.
func planned(fate string) string {
	if strings.HasSuffix(fate, "-plan") {
		return "paused"
	}
	return ""
}

// loseMessages empties the queue before a worker looks into it.
func loseMessages(s *stage) {
	s.t.Helper()
	s.client = s.start("client", s.Point)
	s.eventually("all runs are accepted", func(context.Context) error {
		for _, p := range s.plays {
			if s.id(p.Name) == "" && p.Retry == "" {
				return fmt.Errorf("%s is not", p.Name)
			}
		}
		return nil
	})
	lister := s.bus.JetStream().StreamNames(s.t.Context(), jetstream.WithStreamListSubject(s.part.Runs.Name+".shard.>"))
	for name := range lister.Name() {
		stream, err := s.bus.JetStream().Stream(s.t.Context(), name)
		if err == nil {
			err = stream.Purge(s.t.Context())
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	if err := lister.Err(); err != nil {
		s.t.Fatal(err)
	}
	s.start("worker", s.Point)
}

// loseEvent kills a worker before it can tell that a run has ended. Nobody but a watcher can.
func loseEvent(s *stage) {
	s.t.Helper()
	s.client = s.start("client", s.Point)
	s.start("worker", "finish.committed")
	s.strike(hit{s.awaitHit("finish.committed"), "finish.committed"})
}

// accept notes a run that the test itself submitted.
func (w *world) accept(name, id string) {
	w.hear(nil, strings.Join([]string{"accepted", name, id}, " "))
}
