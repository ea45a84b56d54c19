// Command runs measures the run system of this project against the JetStream below it: each figure of ours beside what
// the same server does in the same process without runs, taking turns. It writes bench/results/runs.json.
//
//	make bench-runs
//	make bench-runs BENCH="-part shards"    one part; the records of the others are kept
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/bench/record"
)

// workerEnv holds the orders of a process that this program started as a worker.
const workerEnv = "BENCH_RUNS_WORKER"

func main() {
	if orders := os.Getenv(workerEnv); orders != "" {
		exit(serveOrders(orders))
	}
	part := flag.String("part", "", "only these parts, with commas: "+strings.Join(partNames(), ", "))
	folder := flag.String("dir", "", "where the servers keep their streams: on the disk to measure; default the system's temporary folder")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process")
	dry := flag.Bool("dry", false, "do not write the records")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, options{part: *part, folder: *folder, profile: *profile, dry: *dry}))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-runs:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	part, folder, profile string
	dry                   bool
}

func run(ctx context.Context, o options) error {
	if o.profile != "" {
		file, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	rs, err := measure(ctx, o.part, bench{size: full(), folder: o.folder, say: printRecord})
	if err != nil {
		return err
	}
	record.Stamp(rs)
	if o.dry {
		return nil
	}
	path, err := keep("bench/results", rs)
	if err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	return nil
}

// parts in the order in which they run.
var parts = []struct {
	name string
	do   func(bench, context.Context) ([]record.Record, error)
}{
	{"submit", bench.submits}, {"shards", bench.shards}, {"latency", bench.latencies}, {"watch", bench.watchers}, {"list", bench.lists},
	{"picture", bench.picture}, {"scale", bench.scale},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// measure runs the chosen parts; "" means all.
func measure(ctx context.Context, chosen string, b bench) ([]record.Record, error) {
	wanted := partNames()
	if chosen != "" {
		wanted = strings.Split(chosen, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(partNames(), name) {
			return nil, fmt.Errorf("part %q: want some of %s", name, strings.Join(partNames(), ", "))
		}
	}
	var all []record.Record
	for _, p := range parts {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		rs, err := p.do(b, ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// keep writes the records beside those of the parts that were not measured this time.
func keep(folder string, fresh []record.Record) (string, error) {
	old, err := record.Read(folder)
	if err != nil {
		return "", err
	}
	part := func(r record.Record) string { return strings.Join(strings.SplitN(r.Name, "/", 3)[:2], "/") }
	measured := map[string]bool{}
	for _, r := range fresh {
		measured[part(r)] = true
	}
	var all []record.Record
	for _, name := range partNames() {
		for _, list := range [][]record.Record{old, fresh} {
			for _, r := range list {
				if part(r) == "runs/"+name && (len(list) == len(fresh) && &list[0] == &fresh[0] || !measured[part(r)]) {
					all = append(all, r)
				}
			}
		}
	}
	return record.Write(folder, "runs", all)
}

func printRecord(r record.Record) {
	fmt.Printf("  %-32s %10.4g %s, %s %.4g: ratio %.3g  %s\n", r.Name, r.Ours, r.Unit, r.PeerName, r.Peer, r.Ratio, r.Note)
}
