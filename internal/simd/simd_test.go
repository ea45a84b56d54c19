package simd

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// numbers draws a slice that starts anywhere in a line of the cache, of few
// different values (so that many equal the threshold) or of any finite ones,
// denormal ones among them.
func numbers(t *rapid.T, n int, name string) []float32 {
	few := rapid.SampledFrom([]float32{-2, -0.5, 0, float32(math.Copysign(0, -1)), 1e-42, -1e-42, 0.1, 0.3, 1, 3})
	any := rapid.Float32Range(-1e30, 1e30)
	s := rapid.SliceOfN(rapid.OneOf(few, any), n, n).Draw(t, name)
	shift := rapid.IntRange(0, 15).Draw(t, "shift")
	return append(make([]float32, shift, shift+n), s...)[shift:]
}

func length(t *rapid.T) int {
	return rapid.OneOf(rapid.SampledFrom([]int{0, 1, 7, 8, 15, 16, 17, 31, 32, 63, 64, 65, 128}), rapid.IntRange(0, 300)).Draw(t, "n")
}

func TestCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := length(t)
		a, b := numbers(t, n, "a"), numbers(t, n, "b")
		sums := make([]float32, n)
		Sum(sums, a, b)
		threshold := rapid.Float32Range(-3, 3).Draw(t, "t")
		if n > 0 && rapid.Bool().Draw(t, "of sums") {
			threshold = sums[rapid.IntRange(0, n-1).Draw(t, "which")]
		}
		count := 0
		for j := range a {
			if float64(float32(float64(a[j])+float64(b[j]))) >= float64(threshold) {
				count++
			}
		}
		k := rapid.OneOf(rapid.IntRange(-1, n+2), rapid.IntRange(count-1, count+1)).Draw(t, "k")
		for _, set := range Levels() {
			if got := reaches(set, a, b, threshold, k); got != (count >= k) {
				t.Fatalf("%s: %d of %d sums reach %v, and reaches says %v for %d", set, count, n, threshold, got, k)
			}
			if got := countAtLeast(set, sums, threshold); got != count {
				t.Fatalf("%s: %d of %d reach %v, not %d", set, count, n, threshold, got)
			}
		}
	})
}

func TestScaleSquares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := length(t)
		v := numbers(t, n, "v")
		for j := range v {
			v[j] = float32(math.Mod(float64(v[j]), 1e10))
		}
		factor := rapid.Float32Range(-2, 2).Draw(t, "factor")
		scaled, slow := slices.Clone(v), 0.0
		for j := range scaled {
			scaled[j] *= factor
			slow += float64(scaled[j]) * float64(scaled[j])
		}
		portable := scaleSquares(Portable, slices.Clone(v), factor)
		if math.Abs(portable-slow) > 1e-13*slow {
			t.Fatalf("squares sum up to %v, want %v", portable, slow)
		}
		for _, set := range Levels() {
			got := append(slices.Clone(v), 7)
			sum := scaleSquares(set, got[:n], factor)
			if sum != portable || !slices.Equal(got[:n], scaled) || got[n] != 7 {
				t.Fatalf("%s: sum %v and %v, want %v and %v", set, sum, got, portable, scaled)
			}
		}
	})
}

func TestChoose(t *testing.T) {
	for i, best := range offered {
		for s, name := range names {
			want := best // where this architecture does not have the one named
			if j := slices.Index(offered, Set(s)); j >= 0 {
				want = offered[min(i, j)]
			}
			if got := choose(best, name); got != want {
				t.Errorf("%q on a machine of %s chooses %s, want %s", name, best, got, want)
			}
		}
		if got := choose(best, ""); got != best {
			t.Errorf("no name on a machine of %s chooses %s", best, got)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a misspelt set is accepted")
		}
	}()
	choose(offered[len(offered)-1], "avx-2")
}

func BenchmarkReaches(b *testing.B) {
	x, y := make([]float32, 500), make([]float32, 500)
	for j := range x {
		x[j], y[j] = float32(j%97), float32(j%31)
	}
	for _, set := range Levels() {
		b.Run(set.String(), func(b *testing.B) {
			for b.Loop() {
				reaches(set, x, y, 1, 490)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/number")
		})
	}
}

func BenchmarkScaleSquares(b *testing.B) {
	x := make([]float32, 768)
	for _, set := range Levels() {
		b.Run(set.String(), func(b *testing.B) {
			for b.Loop() {
				scaleSquares(set, x, 1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/768, "ns/number")
		})
	}
}
