package app

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// kedaQuery is what the autoscaler of deploy/keda asks Prometheus for, on one line.
func kedaQuery(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/keda/generator.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "query: >-\n")
	query, _, end := strings.Cut(rest, "threshold:")
	if !ok || !end {
		t.Fatal("deploy/keda/generator.yml has no folded query before its threshold")
	}
	return strings.Join(strings.Fields(query), " ")
}

var kedaTerm = regexp.MustCompile(`^sum\(max by \(class\) \((dreamood_[a-z_]+)\{kind="([a-z-]+)"\}\)\)$`)

// asked evaluates the query on one process's metrics: the sum of its terms. Over several processes, Prometheus's own
// engine evaluates the same query in deploy/prometheus/alerts_test.yml (make alerts).
func asked(t *testing.T, addr string) float64 {
	t.Helper()
	sum := 0.0
	for _, term := range strings.Split(kedaQuery(t), " + ") {
		m := kedaTerm.FindStringSubmatch(term)
		if m == nil {
			t.Fatalf("the query has a term of a form that is not known: %s", term)
		}
		sum += scrape(t, addr, m[1], m[2])
	}
	return sum
}

// TestWhatTheAutoscalerReads: shards that wait or are worked on count, those of runs that are paused, cancelled, dead or of
// other kinds do not; read from the metrics of a process that works on none of them.
func TestWhatTheAutoscalerReads(t *testing.T) {
	tested, err := os.ReadFile("../../deploy/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(tested), kedaQuery(t)) {
		t.Errorf("deploy/prometheus/alerts_test.yml does not test the query of deploy/keda/generator.yml: %s", kedaQuery(t))
	}
	queue, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer queue.Close()
	a := newApp(t, Config{Data: t.TempDir(), NATS: queue.URL(), Target: "sampler", Embedder: "127.0.0.1:1", Models: models, Metrics: "127.0.0.1:0"})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	reads := func(why string, want float64) {
		t.Helper()
		got := asked(t, a.MetricsAddr())
		for until := time.Now().Add(10 * time.Second); got != want && time.Now().Before(until); got = asked(t, a.MetricsAddr()) {
			time.Sleep(20 * time.Millisecond)
		}
		if got != want {
			t.Errorf("%s: the autoscaler reads %v, want %v", why, got, want)
		}
	}
	submit := func(kind string, shards int, options runs.Options) runs.Run {
		t.Helper()
		run, _, err := a.runs.Submit(t.Context(), runs.Spec{Kind: kind, Shards: shards, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	reads("an empty queue", 0)
	waits := submit("render-set", 5, runs.Options{})
	submit("train-detector", 1, runs.Options{})
	reads("five shards that wait", 5)
	paused, cancelled := submit("render-set", 2, runs.Options{Priority: runs.High}), submit("render-set", 3, runs.Options{Priority: runs.Low})
	reads("ten in three classes", 10)
	if _, err := a.runs.Pause(t.Context(), paused.ID); err != nil {
		t.Fatal(err)
	}
	reads("with two of a run that is paused", 8)
	if _, err := a.runs.Cancel(t.Context(), cancelled.ID); err != nil {
		t.Fatal(err)
	}
	reads("with three of a run that is cancelled, without workers", 5)
	worker, err := runs.New(t.Context(), runs.Config{Kinds: kinds, Backoff: time.Millisecond, MaxBackoff: time.Millisecond}, runs.Deps{JS: queue.JetStream()})
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	release := poison(t, worker)
	reads("with one in the hands of a worker", 5)
	release()
	if err := a.runs.Watch(t.Context(), waits.ID, 0, func(runs.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	reads("with the rest of a run that has failed of a poison shard", 0)
}

// poison serves the kind with work that holds its first shard until release, and then fails for good.
func poison(t *testing.T, s *runs.Service) (release func()) {
	t.Helper()
	held, let := make(chan struct{}, 100), make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(ctx, runs.Worker{Kind: "render-set", Work: func(context.Context, *runs.Task) ([]byte, error) {
			held <- struct{}{}
			<-let
			return nil, errors.New("poison")
		}})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	<-held
	return func() { close(let) }
}
