package philox

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type vectors struct {
	Blocks []struct {
		Counter [4]uint32
		Key     [2]uint32
		Words   [4]uint32
	}
	Streams []struct {
		Key struct {
			Seed    uint64 `json:",string"`
			Purpose string
			Cls     uint32
			Index   uint64 `json:",string"`
			Step    uint32
		}
		Words   []uint32
		Uniform []float32
		Normals []float32
		Choose  []int `json:"choose_20_of_1000"`
		Perm    []int `json:"perm_10"`
	}
}

func load(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/philox.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Blocks) != 11 || len(v.Streams) != 3 {
		t.Fatalf("%d blocks and %d streams in the vectors", len(v.Blocks), len(v.Streams))
	}
	return v
}

// The three known answers of Random123 and eight blocks of randomgen.
func TestBlockKnownAnswers(t *testing.T) {
	for _, v := range load(t).Blocks {
		if got := Block(v.Counter, v.Key); got != v.Words {
			t.Errorf("Block(%#x, %#x) = %#x, want %#x", v.Counter, v.Key, got, v.Words)
		}
	}
}

func TestStreamsMatchPython(t *testing.T) {
	for _, v := range load(t).Streams {
		key := Key{Seed: v.Key.Seed, Purpose: v.Key.Purpose, Class: v.Key.Cls, Index: v.Key.Index, Step: v.Key.Step}
		words := make([]uint32, len(v.Words))
		if Uint32s(words, key); !slices.Equal(words, v.Words) {
			t.Errorf("%+v: words %x, want %x", key, words, v.Words)
		}
		uniform := make([]float32, len(v.Uniform))
		if Uniform(uniform, key); !slices.Equal(uniform, v.Uniform) {
			t.Errorf("%+v: uniform %v, want %v", key, uniform, v.Uniform)
		}
		normals := make([]float32, len(v.Normals))
		Normals(normals, key)
		if !slices.Equal(normals, v.Normals) {
			t.Errorf("%+v: normals %v, want %v", key, normals, v.Normals)
		}
		if got := Choose(1000, 20, key); !slices.Equal(got, v.Choose) {
			t.Errorf("%+v: choose %v, want %v", key, got, v.Choose)
		}
		if got := Perm(10, key); !slices.Equal(got, v.Perm) {
			t.Errorf("%+v: perm %v, want %v", key, got, v.Perm)
		}
	}
}

// Any piece of a vector equals the same piece of the whole.
func TestPiecesEqualTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := Key{
			Seed: rapid.Uint64().Draw(t, "seed"), Purpose: rapid.String().Draw(t, "purpose"),
			Class: rapid.Uint32().Draw(t, "class"), Index: rapid.Uint64().Draw(t, "index"), Step: rapid.Uint32().Draw(t, "step"),
		}
		n := rapid.IntRange(0, 50).Draw(t, "n")
		from := rapid.IntRange(0, n).Draw(t, "from")
		to := rapid.IntRange(from, n).Draw(t, "to")
		whole, piece := make([]float32, n), make([]float32, to-from)
		Normals(whole, key)
		if NormalsAt(piece, key, uint64(from)); !slices.Equal(piece, whole[from:to]) {
			t.Errorf("normals [%d:%d) differ", from, to)
		}
		Uniform(whole, key)
		if UniformAt(piece, key, uint64(from)); !slices.Equal(piece, whole[from:to]) {
			t.Errorf("uniform [%d:%d) differ", from, to)
		}
		words, part := make([]uint32, n), make([]uint32, to-from)
		Uint32s(words, key)
		if Uint32sAt(part, key, uint64(from)); !slices.Equal(part, words[from:to]) {
			t.Errorf("words [%d:%d) differ", from, to)
		}
	})
}

// Every field of the key leads to another stream.
func TestEveryFieldCounts(t *testing.T) {
	keys := []Key{{}, {Seed: 1}, {Seed: 1 << 32}, {Purpose: "a"}, {Class: 1}, {Index: 1}, {Index: 1 << 32}, {Step: 1}}
	seen := map[[8]uint32]Key{}
	for _, key := range keys {
		var w [8]uint32
		Uint32s(w[:], key)
		if other, dup := seen[w]; dup {
			t.Errorf("%+v and %+v draw the same", key, other)
		}
		seen[w] = key
	}
}

func TestEndOfStream(t *testing.T) {
	NormalsAt(make([]float32, 3), Key{}, MaxWords-3)
	defer func() {
		if recover() == nil {
			t.Error("drawing beyond the stream did not panic")
		}
	}()
	NormalsAt(make([]float32, 4), Key{}, MaxWords-3)
}

// Moments and Kolmogorov–Smirnov distance of 400,000 draws over 100 streams.
// Bounds are five standard errors; 1.63/sqrt(n) is the 1 % point of KS.
func TestNormalsAreNormal(t *testing.T) {
	const streams, each = 100, 4000
	const n = streams * each
	x := make([]float32, n)
	for s := range streams {
		Normals(x[s*each:(s+1)*each], Key{Seed: 11, Purpose: "test", Index: uint64(s)})
	}
	var m1, m2, m3, m4, lag float64
	for i, v := range x {
		z := float64(v)
		m1 += z / n
		m2 += z * z / n
		m3 += z * z * z / n
		m4 += z * z * z * z / n
		if i > 0 {
			lag += z * float64(x[i-1]) / n
		}
	}
	root := math.Sqrt(n)
	for _, c := range []struct {
		name           string
		got, want, dev float64
	}{
		{"mean", m1, 0, 1}, {"variance", m2, 1, math.Sqrt(2)}, {"third moment", m3, 0, math.Sqrt(15)},
		{"fourth moment", m4, 3, math.Sqrt(96)}, {"lag-1 covariance", lag, 0, 1},
	} {
		if math.Abs(c.got-c.want) > 5*c.dev/root {
			t.Errorf("%s %.5f, want %.0f ± %.5f", c.name, c.got, c.want, 5*c.dev/root)
		}
	}
	slices.Sort(x)
	var ks float64
	for i, v := range x {
		p := 0.5 * math.Erfc(-float64(v)/math.Sqrt2)
		ks = max(ks, math.Abs(p-float64(i)/n), math.Abs(p-float64(i+1)/n))
	}
	if ks > 1.63/root {
		t.Errorf("Kolmogorov–Smirnov distance %.5f, want below %.5f", ks, 1.63/root)
	}
}

// Every one of the 24 orders of four elements comes up equally often
// (chi-square, 23 degrees of freedom, 0.1 % point 49.7).
func TestPermIsUniform(t *testing.T) {
	const n = 24_000
	seen := map[[4]int]int{}
	for i := range n {
		seen[[4]int(Perm(4, Key{Seed: 3, Purpose: "perm", Index: uint64(i)}))]++
	}
	var chi float64
	for _, c := range seen {
		d := float64(c) - n/24
		chi += d * d / (n / 24)
	}
	if len(seen) != 24 || chi > 49.7 {
		t.Errorf("%d orders seen, chi-square %.1f", len(seen), chi)
	}
}

func TestPermIsAPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		key := Key{Seed: rapid.Uint64().Draw(t, "seed")}
		p := Perm(n, key)
		if got := Choose(n, k, key); !slices.Equal(got, p[:k]) {
			t.Errorf("Choose is not the head of Perm")
		}
		slices.Sort(p)
		for i, v := range p {
			if i != v {
				t.Fatalf("%d is missing", i)
			}
		}
	})
}
