package sampler

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// recorded is what tools/vectors/sampler.py writes.
type recorded struct {
	N, D     int
	BankHead [][]float32 `json:"bank_head"`
	Cases    []recordedCase
}

type recordedCase struct {
	Library, Method string
	Params          struct {
		K, Select, Pick, Noises, Keep, Rounds int
		Sigma                                 float64
		Seed                                  uint64
		Cls                                   uint32
		Mode                                  string
		Brought                               bool
	}
	Kth      []float64
	Selected []int
	Samples  []struct {
		Round, Source, Noise, Rank int
		Kth                        float64
		SourceKth                  float64 `json:"source_kth"`
		Cosine                     float64
		Head                       []float64
	}
}

func load(t *testing.T, name string) recorded {
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var v recorded
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if bank := v.bank(); !slices.Equal(bank.Row(1)[:4], v.BankHead[1]) {
		t.Fatalf("row 1 of the bank is %v, recorded %v", bank.Row(1)[:4], v.BankHead[1])
	}
	return v
}

// numbers, bank and given are those of the script, bit for bit.
func numbers(rows, d int, seed uint64, purpose string) matrix.Matrix {
	words, m := make([]uint32, 3*rows*d), matrix.New(rows, d)
	philox.Uint32s(words, philox.Key{Seed: seed, Purpose: purpose})
	for i := range m.Data {
		sum := words[3*i]>>16 + words[3*i+1]>>16 + words[3*i+2]>>16
		m.Data[i] = 2 * (float32(sum)/65536 - 1.5)
	}
	return m
}

func (v recorded) bank() matrix.Matrix {
	x, m := numbers(v.N+1, v.D, 77, "bank"), matrix.New(v.N, v.D)
	for i := range m.Data {
		m.Data[i] = x.Data[i] + float32(1.5*x.Row(v.N)[i%v.D])
	}
	return m
}

func given(rows, d int) matrix.Matrix { return numbers(rows, d, 78, "given") }

// verify compares every choice and returns how far off the values are at most.
func (c recordedCase) verify(t *testing.T, bank matrix.Matrix) float64 {
	method, err := Lookup(c.Method)
	if err != nil {
		t.Fatal(err)
	}
	v := c.Params
	in := Input{Bank: bank}
	if v.Brought {
		in.Noise = given(v.Rounds*v.Noises, bank.Cols)
	}
	s, err := method.Prepare(context.Background(), in, Params{
		K: v.K, Select: v.Select, Pick: v.Pick, Noises: v.Noises, Sigma: v.Sigma, Keep: v.Keep, Seed: v.Seed, Mode: v.Mode,
	})
	if err != nil {
		t.Fatal(err)
	}
	var worst float64
	off := func(got float32, want float64) { worst = max(worst, math.Abs(float64(got)-want)) }
	b := s.Boundary()
	for i, want := range c.Kth {
		off(b.KthDistances[i], want)
	}
	if !slices.Equal(b.Selected, c.Selected) {
		t.Errorf("selected %v, want %v", b.Selected, c.Selected)
	}
	anchor := bank.Row(0)
	got := collect(t, s, Range{Class: v.Cls, Count: len(c.Samples), Anchor: anchor})
	for i, want := range c.Samples {
		o := got[i]
		if o.Index != i || o.Round != want.Round || o.Source != want.Source || o.NoiseIndex != want.Noise || o.Rank != want.Rank {
			t.Fatalf("sample %d is (round %d, source %d, noise %d, rank %d), want %+v", i, o.Round, o.Source, o.NoiseIndex, o.Rank, want)
		}
		off(o.KthDistance, want.Kth)
		off(o.SourceKthDistance, want.SourceKth)
		off(o.CosineToSource, want.Cosine)
		for j, h := range want.Head {
			off(o.Embedding[j], h)
		}
		off(float32(matrix.Norm(o.Embedding)), 1)
		off(o.CosineToAnchor, matrix.Dot(o.Embedding, anchor)/matrix.Norm(anchor))
	}
	return worst
}

// Against NumPy in float64, in both modes, with drawn noise and with noise brought
// along: the same choices, and values within what the rounding of the bank and of
// drawn noise to float32 does to them.
func TestAgainstNumPy(t *testing.T) {
	v := load(t, "sampler.json")
	for _, c := range v.Cases {
		worst := c.verify(t, v.bank())
		if worst > 1e-6 {
			t.Errorf("%s: values are off by up to %g", c.Method, worst)
		}
		t.Logf("%s %s: %d samples, values within %.1e", c.Method, c.Params.Mode, len(c.Samples), worst)
	}
}

// Against FAISS IndexFlatL2 and scikit-learn's NearestNeighbors: the same choices
// from the same noise, and values within what each is good for: scikit-learn works
// in float64, FAISS adds three float32 terms of up to 2.
func TestAgainstLibraries(t *testing.T) {
	v := load(t, "libraries.json")
	for _, c := range v.Cases {
		worst := c.verify(t, v.bank())
		if limit := map[string]float64{"sklearn": 3e-7, "faiss": 2e-6}[c.Library]; worst > limit {
			t.Errorf("%s, %s: values are off by up to %g", c.Library, c.Method, worst)
		}
		t.Logf("%s, %s: %d samples, values within %.1e", c.Library, c.Method, len(c.Samples), worst)
	}
}
