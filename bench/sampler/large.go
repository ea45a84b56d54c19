package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/philox"
)

// large samples from one class of many points. FAISS answers a part of the queries and is extrapolated: all of
// them would take hours.
func (b bench) large() ([]record.Record, error) {
	s := setting{fmt.Sprintf("n%d", b.rows), b.rows, 768, question{K: 300, Select: 200, Pick: 50, Noises: 1500, Sigma: 0.03, Keep: 2}}
	fmt.Printf("writing a bank of %d x %d\n", s.n, s.d)
	bank, err := s.large(b.folder)
	if err != nil {
		return nil, err
	}
	perQuery, err := b.queries(s, bank)
	if err != nil {
		return nil, err
	}
	p, err := b.ours(levels[0])
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	load := s.question
	load.Op, load.Bank = "load", bank
	begin := time.Now()
	var loaded, a answer
	if err := p.Ask(load, &loaded); err != nil {
		return nil, err
	}
	fmt.Printf("border found in %s\n", time.Since(begin).Round(time.Second))
	var rounds []float64
	for i := range 3 {
		if err := p.Ask(question{Op: "round", Seed: i}, &a); err != nil {
			return nil, err
		}
		rounds = append(rounds, a.Seconds)
		fmt.Printf("round %d: %.1f s\n", i, a.Seconds)
	}
	border := s.record("boundary", []float64{loaded.Seconds}, []float64{perQuery * float64(s.n)}, "FAISS IndexFlatL2, 256 queries extrapolated to all rows")
	round := s.record("round", rounds, []float64{perQuery * float64(s.Pick*s.Noises)}, "FAISS IndexFlatL2, 256 queries extrapolated to all candidates")
	memory := record.Record{
		Name: "sampler/" + s.name + "/memory", Setting: s.String(), Unit: "MB", Ours: a.PeakMB, Peer: 4 * float64(s.n*s.d) / (1 << 20),
		PeerName: "the bank's own size; ours has it mapped, and resident pages of the map count", Runs: 1,
	}
	memory.Ratio = memory.Peer / memory.Ours
	return []record.Record{border, round, memory}, nil
}

// queries measures what one query costs FAISS, in seconds.
func (b bench) queries(s setting, bank string) (float64, error) {
	const count = 256
	other, err := b.faiss()
	if err != nil {
		return 0, err
	}
	defer other.Stop()
	var a answer
	if err := other.Ask(question{Op: "open", Bank: bank}, &a); err != nil {
		return 0, err
	}
	var took []float64
	for range 3 {
		if err := other.Ask(question{Op: "search", Count: count, K: s.K}, &a); err != nil {
			return 0, err
		}
		took = append(took, a.Seconds/count)
	}
	q := record.Median(took)
	fmt.Printf("FAISS: %.1f ms a query\n", q*1e3)
	return q, nil
}

// large writes a bank of unit vectors, a block at a time: 1,000 centres around one direction, each row at its own
// distance to its centre, as [setting.mixture] does for a small one.
func (s setting) large(folder string) (string, error) {
	const centres, block = 1000, 10_000
	path := filepath.Join(folder, s.name+".npy")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w, err := npy.NewWriter(buffered, s.n, s.d)
	if err != nil {
		return "", err
	}
	key := func(purpose string, i int) philox.Key {
		return philox.Key{Seed: 1, Purpose: "bench.large." + purpose, Index: uint64(i)}
	}
	middle, around := make([]float32, s.d), matrix.New(centres, s.d)
	philox.Normals(middle, key("middle", 0))
	philox.Normals(around.Data, key("centres", 0))
	rows := matrix.New(block, s.d)
	for from := 0; from < s.n; from += block {
		n := min(block, s.n-from)
		matrix.Each(n, 0, func(i int) {
			row, centre := rows.Row(i), around.Row((from+i)%centres)
			philox.Normals(row, key("rows", from+i))
			spread := 0.4 + 0.6*float32((from+i)%1009)/1008
			for j := range row {
				row[j] = middle[j] + 0.6*centre[j] + spread*row[j]
			}
			length := float32(math.Sqrt(matrix.Dot(row, row)))
			for j := range row {
				row[j] /= length
			}
		})
		if err := w.Append(rows.Data[:n*s.d]); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	if err := buffered.Flush(); err != nil {
		return "", err
	}
	return path, f.Close()
}
