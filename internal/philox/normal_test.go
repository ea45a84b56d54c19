package philox

import (
	"math"
	"testing"

	"github.com/dreamood/dreamood/internal/simd"
	"pgregory.net/rapid"
)

// edges are words where the transform changes its branch: ends of (0, 1), the
// border of e = 0, quarters and eighths of the circle.
func edges() []uint32 {
	var all []uint32
	for _, w := range []uint32{0, 1 << 23, 1 << 24, 1<<32/3 + 1, 1 << 29, 1 << 30, 1 << 31, 2<<32/3 + 1, 3 << 29, 3 << 30, 7 << 29} {
		for d := range uint32(300) {
			all = append(all, w+d-150)
		}
	}
	return all
}

// Radius, sine and cosine are right to units in the last place of float32, at
// the edges and for a hundred thousand words.
func TestTransformAgainstMath(t *testing.T) {
	words := make([]uint32, 100_000)
	Uint32s(words, Key{Seed: 5})
	var worst struct{ square, sin, cos float64 }
	for _, w := range append(words, edges()...) {
		u := (float64(w) + 0.5) / (1 << 32)
		square := -2 * math.Log(u)
		if w >= 1<<31 {
			square = -2 * math.Log1p(-(float64(math.MaxUint32-w)+0.5)/(1<<32))
		}
		worst.square = max(worst.square, units(squaredRadius(w), square))
		sin, cos := sincosTurn(w)
		wantSin, wantCos := math.Sincos(math.Pi * float64(2*(w>>6)+1) / (1 << 26))
		worst.sin = max(worst.sin, units(sin, wantSin))
		worst.cos = max(worst.cos, units(cos, wantCos))
	}
	t.Logf("units in the last place: squared radius %.2f, sine %.2f, cosine %.2f", worst.square, worst.sin, worst.cos)
	if worst.square > 1.7 || worst.sin > 1.8 || worst.cos > 1.8 {
		t.Errorf("%+v", worst)
	}
}

// units is how far got is from want, in units in the last place of float32.
func units(got float32, want float64) float64 {
	near := float32(math.Abs(want))
	return math.Abs(float64(got)-want) / float64(math.Nextafter32(near, 100)-near)
}

// The largest magnitude is that of the smallest u.
func TestTail(t *testing.T) {
	r := math.Sqrt(float64(squaredRadius(0)))
	if want := math.Sqrt(66 * math.Ln2); math.Abs(r-want) > 1e-6 {
		t.Errorf("radius of the word 0 is %v, want %v", r, want)
	}
}

// All kernels write the same bits, at any offset, length and alignment.
func TestLevelsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := Key{Seed: rapid.Uint64().Draw(t, "seed"), Step: rapid.Uint32().Draw(t, "step")}
		n := rapid.IntRange(0, 300).Draw(t, "n")
		shift := rapid.IntRange(0, 15).Draw(t, "shift")
		offset := rapid.OneOf(rapid.Uint64Range(0, 1000), rapid.Uint64Range(MaxWords-600, MaxWords-300)).Draw(t, "offset")
		want := make([]float32, n)
		normalsAt(simd.Portable, want, key, offset)
		for _, set := range simd.Levels() {
			got := make([]float32, shift+n+1)
			normalsAt(set, got[shift:shift+n], key, offset)
			same(t, set, got[shift:shift+n], want)
			if got[shift+n] != 0 {
				t.Fatalf("%s writes behind the end", set)
			}
		}
	})
}

// A million numbers of every kernel: rare branches are among them.
func TestLevelsAgreeOnMany(t *testing.T) {
	want, got := make([]float32, 1<<20), make([]float32, 1<<20)
	normalsAt(simd.Portable, want, Key{Seed: 9}, 0)
	for _, set := range simd.Levels() {
		normalsAt(set, got, Key{Seed: 9}, 0)
		same(t, set, got, want)
	}
}

func same(t interface{ Fatalf(string, ...any) }, set simd.Set, got, want []float32) {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: number %d is %v, want %v", set, i, got[i], want[i])
		}
	}
}

func TestScaledNormals(t *testing.T) {
	key := Key{Seed: 4}
	plain, scaled := make([]float32, 100), make([]float32, 100)
	NormalsAt(plain, key, 7)
	square := ScaledNormalsAt(scaled, key, 7, 0.07)
	var want float64
	for i, v := range plain {
		if scaled[i] != v*0.07 {
			t.Fatalf("number %d is %v, want %v", i, scaled[i], v*0.07)
		}
		want += float64(scaled[i]) * float64(scaled[i])
	}
	if math.Abs(square-want) > 1e-14*want {
		t.Errorf("squares sum up to %v, want %v", square, want)
	}
}

func BenchmarkNormals(b *testing.B) {
	dst := make([]float32, 1500*768)
	for _, set := range simd.Levels() {
		b.Run(set.String(), func(b *testing.B) {
			for b.Loop() {
				normalsAt(set, dst, Key{Seed: 1}, 0)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(dst)), "ns/number")
		})
	}
}

func BenchmarkScaledNormals(b *testing.B) {
	dst := make([]float32, 1500*768)
	for b.Loop() {
		for i := range 1500 {
			ScaledNormalsAt(dst[i*768:(i+1)*768], Key{Seed: 1}, uint64(i*768), 0.07)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(dst)), "ns/number")
}
