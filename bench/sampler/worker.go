package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/simd"
	"github.com/dreamood/dreamood/services/sampler"
)

// question is what either side can be asked; see peer.py for the fields.
type question struct {
	Op      string  `json:"op"`
	Bank    string  `json:"bank,omitempty"`
	K       int     `json:"k,omitempty"`
	Select  int     `json:"select,omitempty"`
	Pick    int     `json:"pick,omitempty"`
	Noises  int     `json:"noises,omitempty"`
	Sigma   float64 `json:"sigma,omitempty"`
	Keep    int     `json:"keep,omitempty"`
	Seed    int     `json:"seed,omitempty"`
	How     string  `json:"how,omitempty"`
	Noise   string  `json:"noise,omitempty"`
	Points  []int   `json:"points,omitempty"`
	Queries string  `json:"queries,omitempty"`
	Count   int     `json:"count,omitempty"`
	M       int     `json:"m,omitempty"`
	N       int     `json:"n,omitempty"`
	D       int     `json:"d,omitempty"`
	Times   int     `json:"times,omitempty"`
}

// answer is what either side says; each operation fills some of it.
type answer struct {
	Seconds  float64     `json:"seconds"`
	First    float64     `json:"first"`    // seconds to the first outlier of a request
	Noise    float64     `json:"noise"`    // seconds of the noise alone
	Gemm     float64     `json:"gemm"`     // seconds of the product alone
	Count    float64     `json:"count"`    // seconds of counting every sum of every candidate
	Points   []int       `json:"points"`   // picked boundary points of a round
	Boundary []int       `json:"boundary"` // selected rows
	Picks    [][]int     `json:"picks"`    // noises kept per point, best first
	Kth      [][]float64 `json:"kth"`      // their K-th distances
	Level    string      `json:"level"`    // instruction set in use
	PeakMB   float64     `json:"peak_mb"`  // resident memory at its highest
}

// work is our side: it prepares one class and answers questions about it.
func work(in io.Reader, out io.Writer) error {
	var s side
	enc := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		a, err := s.answer(context.Background(), q)
		if err != nil {
			return fmt.Errorf("%s: %w", q.Op, err)
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

type side struct {
	bank    matrix.Matrix
	params  sampler.Params
	sampler sampler.Sampler
}

func (s *side) answer(ctx context.Context, q question) (answer, error) {
	switch q.Op {
	case "load":
		return s.load(ctx, q)
	case "round":
		return s.sample(ctx, q.Seed*s.params.PerRound(), s.params.PerRound())
	case "request":
		return s.sample(ctx, 0, q.Count)
	case "picks":
		return s.picks(ctx, q)
	case "floor":
		return s.floor(q.Times)
	}
	return answer{}, fmt.Errorf("no operation %q", q.Op)
}

func (s *side) load(ctx context.Context, q question) (answer, error) {
	var err error
	if s.bank, err = readMatrix(q.Bank); err != nil {
		return answer{}, err
	}
	s.params = sampler.Params{K: q.K, Select: q.Select, Pick: q.Pick, Noises: q.Noises, Sigma: q.Sigma, Keep: q.Keep, Seed: 1}
	begin := time.Now()
	if s.sampler, err = (sampler.KNN{}).Prepare(ctx, sampler.Input{Bank: s.bank}, s.params); err != nil {
		return answer{}, err
	}
	return answer{Seconds: time.Since(begin).Seconds(), Boundary: s.sampler.Boundary().Selected, Level: simd.Level().String()}, nil
}

// sample draws a range, noise included, as a request does.
func (s *side) sample(ctx context.Context, offset, count int) (answer, error) {
	var a answer
	begin, n := time.Now(), 0
	err := s.sampler.Sample(ctx, sampler.Range{Offset: offset, Count: count}, func(sampler.Outlier) error {
		if n++; n == 1 {
			a.First = time.Since(begin).Seconds()
		}
		return nil
	})
	a.Seconds, a.PeakMB = time.Since(begin).Seconds(), peakMemory()
	if err == nil && n != count {
		err = fmt.Errorf("%d outliers of %d", n, count)
	}
	return a, err
}

// picks repeats a round with the noise of a file, to be compared with the peer's.
func (s *side) picks(ctx context.Context, q question) (answer, error) {
	noise, err := readMatrix(q.Noise)
	if err != nil {
		return answer{}, err
	}
	given, err := (sampler.KNN{}).Prepare(ctx, sampler.Input{Bank: s.bank, Noise: noise}, s.params)
	if err != nil {
		return answer{}, err
	}
	var a answer
	err = given.Sample(ctx, sampler.Range{Count: s.params.PerRound()}, func(o sampler.Outlier) error {
		if o.Rank == 0 {
			a.Points, a.Picks, a.Kth = append(a.Points, o.Source), append(a.Picks, nil), append(a.Kth, nil)
		}
		last := len(a.Picks) - 1
		a.Picks[last], a.Kth[last] = append(a.Picks[last], o.NoiseIndex), append(a.Kth[last], float64(o.KthDistance))
		return nil
	})
	return a, err
}

// floor times the three parts that no implementation of this algorithm can do without, each alone.
func (s *side) floor(times int) (answer, error) {
	p, n, d := s.params, s.bank.Rows, s.bank.Cols
	bank, noise, product := matrix.Pack(s.bank), matrix.NewPacked(p.Noises, d), matrix.New(p.Noises, n)
	fill := func() {
		matrix.Each(p.Noises, 0, func(i int) {
			philox.NormalsAt(noise.Row(i), philox.Key{Seed: 1, Purpose: "bench"}, uint64(i)*uint64(d))
		})
	}
	start, counted := make([]float32, n), make([]bool, p.Pick)
	everything := float32(math.Inf(-1)) // no sum is below it, so counting to N looks at all of them
	a := answer{
		Noise: median(times, fill),
		Gemm:  median(times, func() { matrix.MulT(product, noise, bank, 0) }),
		Count: median(times, func() {
			matrix.Each(p.Pick, 0, func(i int) {
				for g := range p.Noises {
					counted[i] = simd.Reaches(start, product.Row(g), everything, n)
				}
			})
		}),
	}
	return a, nil
}

func median(times int, do func()) float64 {
	do()
	all := make([]float64, times)
	for i := range all {
		begin := time.Now()
		do()
		all[i] = time.Since(begin).Seconds()
	}
	return record.Median(all)
}

// readMatrix maps a .npy file; the process ends before the mapping does.
func readMatrix(path string) (matrix.Matrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return matrix.Matrix{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return matrix.Matrix{}, err
	}
	raw, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return matrix.Matrix{}, fmt.Errorf("map %s: %w", path, err)
	}
	values, shape, err := npy.View(raw)
	if err != nil {
		return matrix.Matrix{}, fmt.Errorf("%s: %w", path, err)
	}
	return matrix.Of(values, shape[len(shape)-1])
}
