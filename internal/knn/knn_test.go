package knn

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"pgregory.net/rapid"
)

func random(rows, cols int, seed uint64, unit bool) matrix.Matrix {
	m := matrix.New(rows, cols)
	philox.Normals(m.Data, philox.Key{Seed: seed, Purpose: "knn"})
	if unit {
		u, err := m.Normalised()
		if err != nil {
			panic(err)
		}
		return u
	}
	return m
}

// slow is the definition: all distances in float64, sorted.
func slow(bank matrix.Matrix, query []float32) []float64 {
	out := make([]float64, bank.Rows)
	for i := range out {
		for j, v := range bank.Row(i) {
			d := float64(v) - float64(query[j])
			out[i] += d * d
		}
	}
	return out
}

func TestAgainstTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		d := rapid.IntRange(1, 20).Draw(t, "d")
		k := rapid.IntRange(1, n).Draw(t, "k")
		bank, queries := random(n, d, 1, false), random(3, d, 2, false)
		index, err := New(bank, rapid.IntRange(0, 3).Draw(t, "workers"))
		if err != nil {
			t.Fatal(err)
		}
		found, err := index.Neighbours(t.Context(), queries, k)
		if err != nil {
			t.Fatal(err)
		}
		kth, err := index.KthDistances(t.Context(), queries, k)
		if err != nil {
			t.Fatal(err)
		}
		for q, row := range found {
			want := slow(bank, queries.Row(q))
			sorted := slices.Sorted(slices.Values(want))
			norm := matrix.Dot(queries.Row(q), queries.Row(q))
			for r, nb := range row {
				other := matrix.Dot(bank.Row(nb.Index), bank.Row(nb.Index))
				// float32 rounding of the three terms and their sums.
				bound := float64(d+4) * 0x1p-23 * (norm + other)
				if math.Abs(float64(nb.Distance)-want[nb.Index]) > bound || math.Abs(want[nb.Index]-sorted[r]) > bound {
					t.Fatalf("query %d, neighbour %d: row %d at %v; it is at %v, and the %d-th nearest at %v", q, r, nb.Index, nb.Distance, want[nb.Index], r, sorted[r])
				}
				if r > 0 && !before(row[r-1], nb) {
					t.Fatalf("query %d: neighbours %d and %d are out of order", q, r-1, r)
				}
			}
			if kth[q] != row[k-1].Distance {
				t.Fatalf("query %d: k-th distance %v, k-th neighbour at %v", q, kth[q], row[k-1].Distance)
			}
		}
	})
}

func TestAgainstScikitLearn(t *testing.T) {
	b, err := os.ReadFile("testdata/knn.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		N, Q, D, K int
		Unit       bool
		Indices    [][]int
		Kth        []float64
		BankSum    float64 `json:"bank_sum"`
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		bank, queries := random(c.N, c.D, 1, c.Unit), random(c.Q, c.D, 2, c.Unit)
		copy(queries.Row(0), bank.Row(c.N/2))
		var sum float64
		for _, v := range bank.Data {
			sum += float64(v)
		}
		if math.Abs(sum-c.BankSum) > 1e-4 {
			t.Fatalf("the bank sums up to %v here and %v there", sum, c.BankSum)
		}
		index, err := New(bank, 0)
		if err != nil {
			t.Fatal(err)
		}
		found, err := index.Neighbours(t.Context(), queries, c.K)
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for q, row := range found {
			for r, nb := range row {
				if nb.Index != c.Indices[q][r] {
					t.Errorf("n %d: query %d: neighbour %d is %d, want %d", c.N, q, r, nb.Index, c.Indices[q][r])
				}
			}
			worst = max(worst, math.Abs(float64(row[c.K-1].Distance)-c.Kth[q]))
		}
		if worst > 8e-6 { // float32 at squared norms up to 30
			t.Errorf("n %d: k-th distances are off by up to %g", c.N, worst)
		}
		t.Logf("n %d, d %d: k-th distances within %.1e", c.N, c.D, worst)
	}
}

// The same bits for any number of workers and any batch, over several blocks.
func TestWorkersAndBatchesDoNotMatter(t *testing.T) {
	const n, q, k = 2500, 150, 70
	bank, queries := random(n, 12, 1, true), random(q, 12, 2, true)
	one, _ := New(bank, 1)
	four, _ := New(bank, 4)
	a, err := one.KthDistances(t.Context(), queries, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := four.KthDistances(t.Context(), queries, k)
	if err != nil || !slices.Equal(a, b) {
		t.Errorf("four workers differ from one (error %v)", err)
	}
	for _, i := range []int{0, 63, 64, 149} {
		c, err := KthDistances(t.Context(), bank, matrix.Matrix{Rows: 1, Cols: 12, Data: queries.Row(i)}, k)
		if err != nil || c[0] != a[i] {
			t.Errorf("query %d alone: %v, with others %v (error %v)", i, c, a[i], err)
		}
	}
}

func TestTiesGoToTheSmallerIndex(t *testing.T) {
	bank := matrix.New(3000, 3) // all rows equal
	for i := range bank.Data {
		bank.Data[i] = float32(i%3) + 0.3
	}
	index, err := New(bank, 0)
	if err != nil {
		t.Fatal(err)
	}
	found, err := index.Neighbours(t.Context(), matrix.Matrix{Rows: 1, Cols: 3, Data: bank.Row(2999)}, 1200)
	if err != nil {
		t.Fatal(err)
	}
	for r, nb := range found[0] {
		if nb != (Neighbour{Index: r}) {
			t.Fatalf("neighbour %d is %+v", r, nb)
		}
	}
}

func TestErrors(t *testing.T) {
	nan := matrix.Matrix{Rows: 2, Cols: 1, Data: []float32{0, float32(math.NaN())}}
	if _, err := New(nan, 0); err == nil || !strings.Contains(err.Error(), "bank: row 1, column 0 is NaN") {
		t.Errorf("NaN in the bank: %v", err)
	}
	if _, err := New(matrix.Matrix{}, 0); err == nil {
		t.Error("an empty bank is no error")
	}
	index, err := New(random(5, 2, 1, false), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{-1, 0, 6} {
		if _, err := index.KthDistances(t.Context(), random(1, 2, 2, false), k); err == nil {
			t.Errorf("k = %d of 5 rows is no error", k)
		}
	}
	if _, err := index.KthDistances(t.Context(), random(1, 3, 2, false), 1); err == nil {
		t.Error("queries of another width are no error")
	}
	if d, err := index.KthDistances(t.Context(), matrix.Matrix{}, 1); err != nil || len(d) != 0 {
		t.Errorf("no queries: %v, %v", d, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := index.KthDistances(ctx, random(1, 2, 2, false), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSelect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 60).Draw(t, "s")
		k := rapid.IntRange(0, len(s)-1).Draw(t, "k")
		sorted := slices.Sorted(slices.Values(s))
		Select(s, k, func(a, b int) bool { return a < b })
		if s[k] != sorted[k] || (k > 0 && slices.Max(s[:k]) > s[k]) || slices.Min(s[k:]) < s[k] {
			t.Fatalf("%v is not cut at %d", s, k)
		}
		floats := make([]float32, len(s))
		for i, v := range s {
			floats[i] = float32(v)
		}
		if got := KthLargest(floats, k+1); got != float32(sorted[len(s)-1-k]) {
			t.Fatalf("largest number %d of %v is %v", k+1, s, got)
		}
	})
}

// Both ways to find the k-th largest give what sorting does.
func TestKthLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32), rapid.Float32Range(-1, 1),
			rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-45, -1e-45, math.MaxFloat32, -math.MaxFloat32}))
		s := rapid.SliceOfN(value, 1, 300).Draw(t, "s")
		k := rapid.IntRange(1, len(s)).Draw(t, "k")
		want := slices.Sorted(slices.Values(s))[len(s)-k]
		if got := bisect(s, k); got != want {
			t.Fatalf("bisect finds %v, want %v", got, want)
		}
		if got := partition(s, k); got != want {
			t.Fatalf("partition finds %v, want %v", got, want)
		}
	})
}

func BenchmarkKthLargest(b *testing.B) {
	sums := random(1, 500, 3, false).Data
	for name, find := range map[string]func([]float32, int) float32{"bisect": bisect, "partition": partition} {
		b.Run(name, func(b *testing.B) {
			s := make([]float32, len(sums))
			for b.Loop() {
				copy(s, sums)
				find(s, 300)
			}
		})
	}
}
