package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/bench/record"
)

// TestMain is also the worker process that the tests start.
func TestMain(m *testing.M) {
	if orders := os.Getenv(workerEnv); orders != "" {
		exit(serveOrders(orders))
	}
	os.Exit(m.Run())
}

// tiny does what full does, on a handful of runs.
func tiny() size {
	return size{
		rounds: 1, clients: []int{1, 3}, submissions: 6,
		crews: []crew{{1, 2}, {2, 1}}, shards: 70,
		samples: 8, busy: 5 * time.Millisecond,
		watchers: 8, few: 2, events: 20, stored: 70,
		scale: plan{processes: 3, slots: 2, runs: 2, shards: 6, median: 100 * time.Millisecond, spread: 0.2, every: 20 * time.Millisecond,
			ackWait: 2 * time.Second},
	}
}

// TestTiny runs every part that needs no model: each ends with all results committed, and its records are whole.
func TestTiny(t *testing.T) {
	b := bench{size: tiny(), folder: t.TempDir(), say: func(r record.Record) { t.Log(r.Name, r.Ours, r.Unit, r.Note) }}
	rs, err := measure(t.Context(), "submit,shards,latency,watch,list,scale", b)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range rs {
		if names[r.Name] || !strings.HasPrefix(r.Name, "runs/") {
			t.Errorf("name %q: want it once, and runs/… ", r.Name)
		}
		names[r.Name] = true
		if strings.HasSuffix(r.Name, "/memory") { // of so few it is noise
			continue
		}
		if r.Setting == "" || r.Unit == "" || r.PeerName == "" || r.Runs < 1 || !(r.Ours > 0) || !(r.Peer > 0) || !(r.Ratio > 0) || math.IsInf(r.Ratio, 0) {
			t.Errorf("not whole: %+v", r)
		}
	}
	for _, want := range []string{
		"submit/3", "shards/1x2", "shards/2x1", "latency/idle/p99", "latency/half-busy/p50", "latency/large/p50", "watch/8-on-2/p99", "watch/8-on-8/replay",
		"list/page", "list/scan", "scale/0-6-0", "scale/0-6-0-killed",
	} {
		if !names["runs/"+want] {
			t.Errorf("no record runs/%s", want)
		}
	}
}

func TestUnknownPart(t *testing.T) {
	if _, err := measure(t.Context(), "submit,nonsense", bench{}); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("%v", err)
	}
}

// TestKeep replaces the records of the parts that were measured and leaves the others.
func TestKeep(t *testing.T) {
	folder := t.TempDir()
	write := func(rs ...record.Record) {
		t.Helper()
		if _, err := keep(folder, rs); err != nil {
			t.Fatal(err)
		}
	}
	write(record.Record{Name: "runs/watch/a", Ours: 1}, record.Record{Name: "runs/submit/1", Ours: 1}, record.Record{Name: "runs/submit/8", Ours: 1})
	write(record.Record{Name: "runs/submit/1", Ours: 2})
	got, err := record.Read(folder)
	if err != nil || len(got) != 2 || got[0].Name != "runs/submit/1" || got[0].Ours != 2 || got[1].Name != "runs/watch/a" {
		t.Errorf("%+v, %v", got, err)
	}
	if files, _ := filepath.Glob(filepath.Join(folder, "*")); len(files) != 1 {
		t.Errorf("files %v", files)
	}
}

func TestIdeal(t *testing.T) {
	ever := math.Inf(1)
	for name, c := range map[string]struct {
		durations  []float64
		slots      []slot
		end, waste float64
	}{
		"one slot":               {[]float64{1, 2, 3}, []slot{{0, ever}}, 6, 0},
		"two slots":              {[]float64{1, 2, 3}, []slot{{0, ever}, {0, ever}}, 4, 0},
		"the second comes later": {[]float64{2, 2, 2}, []slot{{0, ever}, {3, ever}}, 5, 0},
		"one dies at work":       {[]float64{2, 2, 2}, []slot{{0, ever}, {0, 1}}, 6, 1},
		"its shard comes last":   {[]float64{1, 4}, []slot{{0, ever}, {0, 3}}, 7, 3},
		"one dies before":        {[]float64{2}, []slot{{1, ever}, {0, 0}}, 3, 0},
	} {
		if end, waste := ideal(c.durations, c.slots); end != c.end || waste != c.waste {
			t.Errorf("%s: end %g after waste %g, want %g after %g", name, end, waste, c.end, c.waste)
		}
	}
}

// TestFakeWork has the spread that the plan says, and the same every time.
func TestFakeWork(t *testing.T) {
	w := fakeWork{Seed: 3, Median: 3, Spread: 0.2}
	var all []float64
	inside := 0
	for shard := range 1000 {
		s := w.seconds(shard)
		if all = append(all, s); s > 2 && s < 4.5 {
			inside++
		}
		if s != w.seconds(shard) {
			t.Fatalf("shard %d takes another time", shard)
		}
	}
	if m := record.Median(all); math.Abs(m-3) > 0.1 || inside < 930 {
		t.Errorf("median %g, %d of 1000 between 2 and 4.5 s", m, inside)
	}
}
