package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/dreamood/dreamood/bench/peer"
	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/philox"
)

// levels are the instruction sets that our side is measured with, best first.
var levels = []string{"avx512", "avx2", "sse2", "portable"}

type bench struct {
	folder, python, peer, real string
	rounds                     int
	rows                       int // of a large bank
}

func (b bench) faiss() (*peer.Process, error) { return peer.Start("the peer", nil, b.python, b.peer) }

func (b bench) ours(level string) (*peer.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return peer.Start("our side", []string{"DREAMOOD_SIMD=" + level}, self, "-worker")
}

// compare measures the settings of the paper at every level, then how time grows.
func (b bench) compare() ([]record.Record, error) {
	var all []record.Record
	for _, s := range paper() {
		bank, err := s.mixture(b.folder)
		if err != nil {
			return nil, err
		}
		rs, err := b.setting(s, bank, levels, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, rs...)
	}
	if b.real != "" {
		s, bank, err := b.realBank()
		if err != nil {
			return nil, err
		}
		rs, err := b.setting(s, bank, levels, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, rs...)
	}
	for _, s := range growth() {
		bank, err := s.mixture(b.folder)
		if err != nil {
			return nil, err
		}
		rs, err := b.setting(s, bank, levels[:1], false)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// setting lets FAISS and each of our levels draw rounds in turn.
func (b bench) setting(s setting, bank string, levels []string, whole bool) ([]record.Record, error) {
	other, err := b.faiss()
	if err != nil {
		return nil, err
	}
	defer other.Stop()
	load := s.question
	load.Op, load.Bank = "load", bank
	var border answer
	if err := other.Ask(load, &border); err != nil {
		return nil, err
	}
	var sides []*peer.Process
	var names []string
	for _, level := range levels {
		p, err := b.ours(level)
		if err != nil {
			return nil, err
		}
		defer p.Stop()
		var a answer
		if err := p.Ask(load, &a); err != nil {
			return nil, err
		}
		if a.Level != level {
			fmt.Printf("%s: this CPU has no %s\n", s.name, level)
			continue
		}
		if same := overlap(a.Boundary, border.Boundary); same < len(a.Boundary) {
			return nil, fmt.Errorf("%s: only %d of %d boundary points are FAISS's", level, same, len(a.Boundary))
		}
		sides, names = append(sides, p), append(names, level)
		if err := b.check(s, p, other, level); err != nil {
			return nil, err
		}
	}
	took := make([][]float64, len(sides))
	var faiss, gemm []float64
	for i := range b.rounds {
		q := question{Op: "round", Seed: i, How: "faiss"}
		var a answer
		if err := other.Ask(q, &a); err != nil {
			return nil, err
		}
		faiss = append(faiss, a.Seconds)
		if q.How = "gemm"; whole {
			if err := other.Ask(q, &a); err != nil {
				return nil, err
			}
			gemm = append(gemm, a.Seconds)
		}
		for k, p := range sides {
			var turns []float64 // ours is short: several rounds to one of the peer's
			for j := range 5 {
				q.Seed = 5*i + j
				if err := p.Ask(q, &a); err != nil {
					return nil, err
				}
				turns = append(turns, a.Seconds)
			}
			took[k] = append(took[k], record.Median(turns))
		}
	}
	var rs []record.Record
	for k, name := range names {
		r := s.record("round/"+name, took[k], faiss, "FAISS IndexFlatL2, 2 threads")
		rs = append(rs, r)
		if whole {
			rs = append(rs, s.record("round/"+name, took[k], gemm, "NumPy: product of all candidates and partition"))
		}
	}
	if whole {
		more, err := b.limits(s, sides[0], other, took[0])
		if err != nil {
			return nil, err
		}
		rs = append(rs, more...)
	}
	for _, r := range rs {
		fmt.Printf("  %-40s %10.3f %s, %s %.3f: ratio %.3g\n", r.Name, r.Ours, r.Unit, r.PeerName, r.Peer, r.Ratio)
	}
	return rs, nil
}

// check gives both sides the same noise and compares what they pick.
func (b bench) check(s setting, ours, other *peer.Process, level string) error {
	noise := make([]float32, s.Noises*s.d)
	philox.Normals(noise, philox.Key{Seed: 2, Purpose: "bench.check"})
	path, err := writeArray(b.folder, "noise.npy", noise, 1, s.Noises, s.d)
	if err != nil {
		return err
	}
	var a, theirs answer
	if err := ours.Ask(question{Op: "picks", Noise: path}, &a); err != nil {
		return err
	}
	if err := other.Ask(question{Op: "picks", Noise: path, Points: a.Points}, &theirs); err != nil {
		return err
	}
	same := 0
	for i := range a.Picks {
		if slices.Equal(a.Picks[i], theirs.Picks[i]) {
			same++
		}
	}
	fmt.Printf("%s, %s: picks identical to FAISS on %d of %d points\n", s.name, level, same, len(a.Picks))
	if same < len(a.Picks)*9/10 { // float32 ties of FAISS may fall either way
		return fmt.Errorf("%s: the picks are not FAISS's: %d of %d points", level, same, len(a.Picks))
	}
	return nil
}

// limits compares a round with its floor and measures a request of 10,000 outliers.
func (b bench) limits(s setting, p, other *peer.Process, took []float64) ([]record.Record, error) {
	var f, best, q answer
	if err := p.Ask(question{Op: "floor", Times: 15}, &f); err != nil {
		return nil, err
	}
	if err := other.Ask(question{Op: "gemm", M: s.Noises, N: s.n, D: s.d, Times: 15}, &best); err != nil {
		return nil, err
	}
	gemm := min(f.Gemm, best.Seconds) // what this CPU can do
	if err := p.Ask(question{Op: "request", Count: 10_000}, &q); err != nil {
		return nil, err
	}
	floor := s.record("round/floor", took, []float64{f.Noise + gemm + f.Count}, "the noise, the product and the counting, each alone")
	floor.Note = fmt.Sprintf("noise %.2f ms, product %.2f ms (%.0f GFLOP/s; NumPy's %.2f ms), counting all %.2f ms", f.Noise*1e3, f.Gemm*1e3,
		2*float64(s.Noises)*float64(s.n)*float64(s.d)/f.Gemm/1e9, best.Seconds*1e3, f.Count*1e3)
	first := s.record("request/first", []float64{q.First}, []float64{1}, "one second")
	first.Note = fmt.Sprintf("10,000 outliers of one class in %.2f s; peak memory of the process %.0f MB", q.Seconds, q.PeakMB)
	return []record.Record{floor, first}, nil
}

// record compares seconds, as medians in milliseconds.
func (s setting) record(what string, ours, peer []float64, name string) record.Record {
	o, p := record.Median(slices.Clone(ours)), record.Median(slices.Clone(peer))
	return record.Record{
		Name: "sampler/" + s.name + "/" + what, Setting: s.String(), Unit: "ms", Ours: o * 1e3, Peer: p * 1e3, PeerName: name,
		Ratio: p / o, Runs: len(ours),
	}
}

// overlap counts the elements of a that b has too.
func overlap(a, b []int) int {
	n := 0
	for _, x := range a {
		if slices.Contains(b, x) {
			n++
		}
	}
	return n
}
