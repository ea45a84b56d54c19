// Command trainer compares the training engine with PyTorch on the CPU: images per second of whole training steps, both
// sides taking turns in one run, each in a process of its own, and the most memory that a process of each had. It writes
// bench/results/trainer.json.
//
//	make bench-trainer
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/dreamood/dreamood/bench/peer"
	"github.com/dreamood/dreamood/bench/record"
)

const batch = 128

// networks are measured in this order, with the steps of each turn.
var networks = []struct {
	name         string
	width, steps int
}{{"resnet9", 24, 6}, {"wrn-40-2", 16, 2}, {"resnet18", 64, 2}}

var (
	ours  = []string{"fp32", "bf16"}
	peers = []string{"fp32", "fp32 channels_last", "bf16 channels_last"}
)

type bench struct {
	python, script string
	threads, turns int
	networkOnly    string
}

func main() {
	var b bench
	flag.StringVar(&b.python, "python", "python3", "Python with the packages of bench/trainer/requirements.txt")
	flag.StringVar(&b.script, "peer", "bench/trainer/peer.py", "the peer's script")
	flag.IntVar(&b.threads, "threads", 2, "threads of each side")
	flag.IntVar(&b.turns, "turns", 4, "turns of every side on every network")
	flag.StringVar(&b.networkOnly, "network", "", "one network: resnet9, wrn-40-2 or resnet18")
	worker := flag.Bool("worker", false, "be one side (started by the benchmark itself)")
	flag.Parse()
	run := b.run
	if *worker {
		run = work
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-trainer:", err)
		os.Exit(1)
	}
}

func (b bench) run() error {
	var rs []record.Record
	for _, n := range networks {
		if b.networkOnly != "" && b.networkOnly != n.name {
			continue
		}
		q := question{Network: n.name, Width: n.width, Batch: batch, Threads: b.threads, Steps: n.steps}
		of, err := b.network(q)
		if err != nil {
			return err
		}
		rs = append(rs, of...)
		record.Stamp(rs)
		if _, err := record.Write("bench/results", "trainer", rs); err != nil { // after each, since they take minutes
			return err
		}
	}
	fmt.Println("written to bench/results/trainer.json")
	return record.Table(os.Stdout, rs)
}

// side is one process that trains one network in one mode.
type side struct {
	own     bool
	mode    string
	process *peer.Process
	seconds []float64
	peak    float64
}

// network measures all sides on one network.
func (b bench) network(q question) ([]record.Record, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var sides []*side
	defer func() {
		for _, s := range sides {
			s.process.Stop()
		}
	}()
	start := func(own bool, mode, command string, args ...string) error {
		p, err := peer.Start(mode, nil, command, args...)
		if err == nil {
			sides = append(sides, &side{own: own, mode: mode, process: p})
		}
		return err
	}
	for _, mode := range ours {
		err = errors.Join(err, start(true, mode, self, "-worker"))
	}
	for _, mode := range peers {
		err = errors.Join(err, start(false, mode, b.python, b.script))
	}
	if err != nil {
		return nil, err
	}
	if sides, err = b.turn(sides, q); err != nil {
		return nil, err
	}
	return compare(sides, q), nil
}

// turn lets all sides take their turns; a side that cannot is left out, and said so.
func (b bench) turn(sides []*side, q question) ([]*side, error) {
	for range b.turns {
		var able []*side
		for _, s := range sides {
			q.Mode = s.mode
			var a answer
			if err := s.process.Ask(q, &a); err != nil {
				return sides, err
			}
			if a.Error != "" {
				fmt.Fprintf(os.Stderr, "%s %s is left out: %s\n", q.Network, s.mode, a.Error)
				s.process.Stop()
				continue
			}
			s.seconds, s.peak = append(s.seconds, a.Seconds...), a.PeakMiB
			able = append(able, s)
		}
		sides = able
	}
	return sides, nil
}

// compare pairs ours in each precision with every mode of the peer, in speed and memory.
func compare(sides []*side, q question) (rs []record.Record) {
	setting := fmt.Sprintf("%s/%d, batch %d, 3 x 32 x 32, cross-entropy, Nesterov SGD", q.Network, q.Width, q.Batch)
	for _, a := range sides {
		for _, p := range sides {
			if !a.own || p.own {
				continue
			}
			speed := func(s *side) float64 { return float64(q.Batch) / record.Median(s.seconds) }
			name := fmt.Sprintf("trainer/%s/%s", q.Network, a.mode)
			rs = append(rs,
				record.Record{Name: name, Setting: setting, Unit: "images/s", Ours: speed(a), Peer: speed(p), PeerName: "PyTorch " + p.mode,
					Ratio: speed(a) / speed(p), Runs: len(a.seconds)},
				record.Record{Name: name + "/memory", Setting: setting, Unit: "MiB", Ours: a.peak, Peer: p.peak, PeerName: "PyTorch " + p.mode,
					Ratio: p.peak / a.peak, Runs: 1, Note: "peak of a process that trains nothing else"})
		}
	}
	return rs
}
