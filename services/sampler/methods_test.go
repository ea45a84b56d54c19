package sampler

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// normals is an [n, d] block of numbers that tools/vectors/sampler_methods.py
// draws too.
func normals(purpose string, class, n, d int) matrix.Matrix {
	m := matrix.New(n, d)
	philox.Normals(m.Data, philox.Key{Seed: 78, Purpose: purpose, Class: uint32(class)})
	return m
}

// spreadBank is n embeddings around a direction; column j spreads as 1/(1+j).
func spreadBank(class, n, d int) matrix.Matrix {
	m, centre := normals("bank", class, n, d), normals("centre", class, 1, d)
	for i, v := range m.Data {
		scaled := float32(v * float32(1/float64(1+i%d)))
		m.Data[i] = scaled + float32(1.5*centre.Data[i%d])
	}
	return m
}

// boundaryInput is a class around its anchor; the larger pull, the nearer.
func boundaryInput(class, n, d, classes int, pull float32) Input {
	in := Input{Bank: normals("spread", class, n, d), Class: class, Anchors: normals("anchors", 0, classes, d)}
	for i, v := range in.Bank.Data {
		in.Bank.Data[i] = float32(pull*in.Anchors.Row(class)[i%d]) + v
	}
	return in
}

func loadVectors(t *testing.T, name string, into any) {
	raw, err := os.ReadFile("testdata/methods_" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB, m Method, in Input, p Params) T {
	s, err := m.Prepare(context.Background(), in, p)
	if err != nil {
		t.Fatal(err)
	}
	return s.(T)
}

// off is the largest difference of two vectors.
func off[A, B float32 | float64](a []A, b []B) float64 {
	worst := math.Abs(float64(len(a) - len(b)))
	for i := range min(len(a), len(b)) {
		worst = max(worst, math.Abs(float64(a[i])-float64(b[i])))
	}
	return worst
}

func TestGaussianAgainstScikitLearnAndTorch(t *testing.T) {
	var cases []struct {
		Params struct {
			Sizes                           []int
			D, Cls, Noises, Keep, Rounds, K int
			Seed                            uint64
			Alone                           bool
		}
		Covariance [][]float64
		Distances  []float64
		Samples    []struct {
			Round, Noise int
			Embedding    []float64
			Kth          float64
		}
	}
	loadVectors(t, "gaussian", &cases)
	for _, c := range cases {
		banks := make([]matrix.Matrix, len(c.Params.Sizes))
		for i, n := range c.Params.Sizes {
			banks[i] = spreadBank(i, n, c.Params.D)
		}
		in := Input{Bank: banks[c.Params.Cls], Class: c.Params.Cls}
		if !c.Params.Alone {
			in.Banks = func(context.Context) ([]matrix.Matrix, error) { return banks, nil }
		}
		p := Params{K: c.Params.K, Select: 5, Noises: c.Params.Noises, Keep: c.Params.Keep, Seed: c.Params.Seed}
		s := must[*gaussianSampler](t, Gaussian{}, in, p)
		upper := mat.NewTriDense(c.Params.D, mat.Upper, s.upper.Data)
		var sigma mat.Dense
		sigma.Mul(upper.T(), upper)
		for i, want := range c.Covariance {
			if d := off(sigma.RawRowView(i), want); d > 1e-14 {
				t.Errorf("row %d of the covariance is off by %g", i, d)
			}
		}
		distances, err := s.distances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A condition number of 300 times the rounding of float64.
		if d := off(distances, c.Distances); d > 1e-9 {
			t.Errorf("squared Mahalanobis distances are off by %g", d)
		}
		if want := extreme(c.Distances, 5); !slices.Equal(s.Boundary().Selected, want) {
			t.Errorf("selected %v, want %v", s.Boundary().Selected, want)
		}
		for i, o := range collect(t, s, Range{Class: uint32(c.Params.Cls), Count: len(c.Samples)}) {
			want := c.Samples[i]
			if o.Round != want.Round || o.NoiseIndex != want.Noise || o.Rank != i%c.Params.Keep {
				t.Errorf("sample %d is (round %d, noise %d, rank %d), want %+v", i, o.Round, o.NoiseIndex, o.Rank, want)
			}
			// Half a unit of float32 in the embedding, float32 sums in the distance.
			if d := off(o.Embedding, want.Embedding); d > 4e-8 {
				t.Errorf("sample %d: the embedding is off by %g", i, d)
			}
			if d := math.Abs(float64(o.KthDistance) - want.Kth); d > 1e-6 {
				t.Errorf("sample %d: the K-th distance is off by %g", i, d)
			}
		}
	}
}

func TestBoundaryAgainstTorch(t *testing.T) {
	var cases []struct {
		Params struct {
			N, D, Classes, Cls, Steps, Beyond, Select int
			Pull, Alpha                               float64
		}
		Gradients [][]float64
		Kappa     []int
		Selected  []int
		Samples   [][]float64
	}
	loadVectors(t, "boundary", &cases)
	for _, c := range cases {
		in := boundaryInput(c.Params.Cls, c.Params.N, c.Params.D, c.Params.Classes, float32(c.Params.Pull))
		p := Params{K: 10, Select: c.Params.Select, Alpha: c.Params.Alpha, Steps: c.Params.Steps, Beyond: c.Params.Beyond}
		s := must[*crossing](t, CrossBoundary{}, in, p)
		for i, want := range c.Gradients {
			z := widened(s.unit.Row(i))
			grad, cos := make([]float64, len(z)), make([]float64, c.Params.Classes)
			s.head.cosines(cos, z)
			s.head.gradient(grad, z, cos, c.Params.Cls)
			if d := off(grad, want); d > 1e-13 {
				t.Errorf("gradient %d is off autograd's by %g", i, d)
			}
		}
		for i, want := range c.Kappa {
			kappa, _, ok := s.cross(s.unit.Row(i))
			if ok != (want >= 0) || ok && kappa != want {
				t.Errorf("row %d: κ is %d (%v), want %d", i, kappa, ok, want)
			}
		}
		if !slices.Equal(s.Boundary().Selected, c.Selected) {
			t.Errorf("selected %v, want %v", s.Boundary().Selected, c.Selected)
		}
		for i, o := range collect(t, s, Range{Count: len(c.Samples)}) {
			if d := off(o.Embedding, c.Samples[i]); d > 4e-8 || o.Source != c.Selected[i] {
				t.Errorf("sample %d from row %d, want %d; off by %g", i, o.Source, c.Selected[i], d)
			}
		}
	}
}

func TestPCAShellAgainstScikitLearn(t *testing.T) {
	var cases []struct {
		Params struct {
			N, D, Cls, Count int
			Lower, Upper     float64
			Seed             uint64
		}
		Values       []float64
		Large        int
		Distances    []float64
		Inner, Outer float64
		Samples      []struct {
			Distance  float64
			Embedding []float64
		}
	}
	loadVectors(t, "pca_shell", &cases)
	for _, c := range cases {
		p := Params{K: 3, Select: 4, Seed: c.Params.Seed, Lower: c.Params.Lower, Upper: c.Params.Upper}
		s := must[*shellSampler](t, PCAShell{}, Input{Bank: spreadBank(c.Params.Cls, c.Params.N, c.Params.D)}, p)
		values := make([]float64, c.Params.D)
		for i, w := range s.weights {
			values[len(values)-1-i] = 1/w - ridge
		}
		if d := off(values, c.Values); d > 1e-15 || s.large != c.Large {
			t.Errorf("eigenvalues are off by %g, %d large components, want %d", d, s.large, c.Large)
		}
		distances, err := s.distances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := off(append(distances, s.inner, s.outer), append(c.Distances, c.Inner, c.Outer)); d > 1e-11 {
			t.Errorf("Mahalanobis distances are off by %g", d)
		}
		if want := extreme(c.Distances, 4); !slices.Equal(s.Boundary().Selected, want) {
			t.Errorf("selected %v, want %v", s.Boundary().Selected, want)
		}
		for i, o := range collect(t, s, Range{Class: uint32(c.Params.Cls), Count: len(c.Samples)}) {
			if d := off(o.Embedding, c.Samples[i].Embedding); d > 4e-8 {
				t.Errorf("sample %d is off by %g", i, d)
			}
		}
	}
}

func widened(v []float32) []float64 {
	out := make([]float64, len(v))
	for j, x := range v {
		out[j] = float64(x)
	}
	return out
}

// mahalanobis gives the Mahalanobis distance of z to rows [N, D], with the ridge,
// by the inverse of the covariance.
func mahalanobis(t interface{ Fatal(...any) }, rows matrix.Matrix) func(z []float64) float64 {
	d := rows.Cols
	mean, sigma := make([]float64, d), mat.NewDense(d, d, nil)
	for i := range rows.Rows {
		for j, v := range rows.Row(i) {
			mean[j] += float64(v) / float64(rows.Rows)
		}
	}
	for i := range rows.Rows {
		for j, v := range rows.Row(i) {
			for k, w := range rows.Row(i) {
				sigma.Set(j, k, sigma.At(j, k)+(float64(v)-mean[j])*(float64(w)-mean[k])/float64(rows.Rows))
			}
		}
	}
	for j := range d {
		sigma.Set(j, j, sigma.At(j, j)+1e-4)
	}
	var inverse mat.Dense
	if err := inverse.Inverse(sigma); err != nil {
		t.Fatal(err)
	}
	return func(z []float64) float64 {
		c := mat.NewVecDense(d, nil)
		for j, v := range z {
			c.SetVec(j, v-mean[j])
		}
		return math.Sqrt(mat.Inner(c, &inverse, c))
	}
}

// The samples of a round are the least likely of all its draws.
func TestGaussianKeepsTheLeastLikely(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d := rapid.IntRange(2, 30).Draw(t, "n"), rapid.IntRange(1, 12).Draw(t, "d")
		p := Params{K: 1, Select: 1, Noises: rapid.IntRange(1, 150).Draw(t, "noises"), Seed: rapid.Uint64().Draw(t, "seed")}
		p.Keep = rapid.IntRange(1, min(4, p.Noises)).Draw(t, "keep")
		prepared, err := Gaussian{}.Prepare(context.Background(), Input{Bank: spreadBank(0, n, d)}, p)
		if err != nil {
			t.Fatal(err)
		}
		s := prepared.(*gaussianSampler)
		distance := mahalanobis(t, s.unit.Matrix)
		all := make([]float64, p.Noises)
		for g := range all {
			all[g] = distance(s.draw(3, 2, g))
		}
		sorted := slices.Sorted(slices.Values(all))
		err = s.Sample(context.Background(), Range{Class: 3, Offset: 2 * p.Keep, Count: p.Keep}, func(o Outlier) error {
			// Where float64 would rank another one here, the two are equal to it.
			if want := sorted[len(sorted)-1-o.Rank]; math.Abs(all[o.NoiseIndex]-want) > 1e-9*want {
				t.Fatalf("rank %d: noise %d has distance %v, the best %v", o.Rank, o.NoiseIndex, all[o.NoiseIndex], want)
			}
			if want := embedding(s.draw(3, 2, o.NoiseIndex)); !slices.Equal(o.Embedding, want) || math.Abs(matrix.Norm(want)-1) > 1e-6 {
				t.Fatal("not the unit vector along its draw")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// The draws of a round have the mean and the covariance that they are said to.
func TestGaussianMoments(t *testing.T) {
	const draws = 20_000
	s := must[*gaussianSampler](t, Gaussian{}, Input{Bank: spreadBank(0, 50, 4)}, Params{K: 1, Select: 1, Noises: draws, Keep: 1})
	mean, second := make([]float64, 4), mat.NewDense(4, 4, nil)
	for i := range draws {
		x := s.draw(0, 0, i)
		for j := range x {
			mean[j] += x[j] / draws
			for k := range x {
				second.Set(j, k, second.At(j, k)+(x[j]-s.mean[j])*(x[k]-s.mean[k])/draws)
			}
		}
	}
	upper := mat.NewTriDense(4, mat.Upper, s.upper.Data)
	var sigma mat.Dense
	sigma.Mul(upper.T(), upper)
	for j := range mean {
		deviation := math.Sqrt(sigma.At(j, j))
		if math.Abs(mean[j]-s.mean[j]) > 5*deviation/math.Sqrt(draws) {
			t.Errorf("mean %d is %v, want %v", j, mean[j], s.mean[j])
		}
		for k := range mean {
			scale := deviation * math.Sqrt(sigma.At(k, k))
			if math.Abs(second.At(j, k)-sigma.At(j, k)) > 5*math.Sqrt(2)*scale/math.Sqrt(draws) {
				t.Errorf("covariance (%d, %d) is %v, want %v", j, k, second.At(j, k), sigma.At(j, k))
			}
		}
	}
}

// Samples lie in the shell, and off the mean only where the class hardly spreads.
func TestPCAShellBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d := rapid.IntRange(2, 60).Draw(t, "n"), rapid.IntRange(2, 16).Draw(t, "d")
		p := Params{K: 1, Select: 1, Seed: rapid.Uint64().Draw(t, "seed")}
		p.Lower = rapid.Float64Range(0.01, 0.95).Draw(t, "lower")
		p.Upper = rapid.Float64Range(p.Lower+0.01, 0.99).Draw(t, "upper")
		prepared, err := PCAShell{}.Prepare(context.Background(), Input{Bank: spreadBank(0, n, d)}, p)
		if err != nil {
			t.Fatal(err)
		}
		s := prepared.(*shellSampler)
		distance := mahalanobis(t, s.unit.Matrix)
		id := make([]float64, n)
		for i := range id {
			id[i] = distance(widened(s.unit.Row(i)))
		}
		slices.Sort(id)
		inner, outer := quantile64(id, p.Lower), quantile64(id, p.Upper)
		err = s.Sample(context.Background(), Range{Class: 1, Offset: 5, Count: 20}, func(o Outlier) error {
			z := s.point(1, o.Round)
			if at := distance(z); at < inner*(1-1e-10) || at > outer*(1+1e-10) { // float64, the condition number is below 1e4
				t.Fatalf("sample %d lies at %v, the shell is [%v, %v]", o.Index, at, inner, outer)
			}
			if !slices.Equal(o.Embedding, embedding(z)) || math.Abs(matrix.Norm(o.Embedding)-1) > 1e-6 {
				t.Fatal("not the unit vector along its point")
			}
			for j := range z {
				z[j] -= s.mean[j]
			}
			for i, c := range s.along(z)[d-s.large:] {
				if math.Abs(c) > 1e-12 {
					t.Fatalf("sample %d leaves the mean along large component %d by %g", o.Index, i, c)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Samples are of another class, those of the least κ first.
func TestBoundaryIsCrossed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d, classes := rapid.IntRange(2, 40).Draw(t, "n"), rapid.IntRange(2, 24).Draw(t, "d"), rapid.IntRange(2, 8).Draw(t, "classes")
		in := boundaryInput(rapid.IntRange(0, classes-1).Draw(t, "class"), n, d, classes, rapid.Float32Range(0, 2).Draw(t, "pull"))
		p := Params{K: 1, Select: rapid.IntRange(1, n).Draw(t, "select"), Alpha: 0.02, Steps: 200, Beyond: rapid.IntRange(0, 3).Draw(t, "beyond")}
		prepared, err := CrossBoundary{}.Prepare(context.Background(), in, p)
		if err != nil {
			t.Skip(err)
		}
		s := prepared.(*crossing)
		last, selected := 0, s.Boundary().Selected
		for _, row := range selected {
			kappa, _, ok := s.cross(s.unit.Row(row))
			if !ok || kappa < last {
				t.Fatalf("row %d with κ %d comes after %d", row, kappa, last)
			}
			last = kappa
		}
		err = s.Sample(context.Background(), Range{Count: len(selected)}, func(o Outlier) error {
			own := matrix.Dot(o.Embedding, in.Anchors.Row(in.Class)) / matrix.Norm(in.Anchors.Row(in.Class))
			other := math.Inf(-1)
			for c := range classes {
				if c != in.Class {
					other = max(other, matrix.Dot(o.Embedding, in.Anchors.Row(c))/matrix.Norm(in.Anchors.Row(c)))
				}
			}
			if own > other+1e-7 { // what rounding to float32 may undo
				t.Fatalf("sample %d has cosine %v to its class and at most %v to others", o.Index, own, other)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Sample(context.Background(), Range{Offset: len(selected), Count: 1}, func(Outlier) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "ask for fewer") {
			t.Fatalf("one beyond the last: %v", err)
		}
	})
}

func TestGradientEqualsFiniteDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, classes := rapid.IntRange(1, 12).Draw(t, "d"), rapid.IntRange(2, 6).Draw(t, "classes")
		head, err := newCosineHead(normals("anchors", 1, classes, d))
		if err != nil {
			t.Fatal(err)
		}
		z := rapid.SliceOfN(rapid.Float64Range(0.2, 2), d, d).Draw(t, "z")
		y := rapid.IntRange(0, classes-1).Draw(t, "y")
		cos := make([]float64, classes)
		entropy := func(z []float64) float64 {
			head.cosines(cos, z)
			var sum float64
			for _, s := range cos {
				sum += math.Exp(s / 0.1)
			}
			return math.Log(sum) - cos[y]/0.1
		}
		grad := make([]float64, d)
		head.cosines(cos, z)
		head.gradient(grad, z, cos, y)
		for j := range z {
			const h = 1e-5
			there, back := slices.Clone(z), slices.Clone(z)
			there[j], back[j] = z[j]+h, z[j]-h
			if slope := (entropy(there) - entropy(back)) / (2 * h); math.Abs(slope-grad[j]) > 1e-5*max(1, math.Abs(slope)) {
				t.Fatalf("component %d is %v, by differences %v", j, grad[j], slope)
			}
		}
	})
}

// Equal cosines are those of the class with the smaller number.
func TestTiesOfTheHead(t *testing.T) {
	head, err := newCosineHead(matrix.Matrix{Rows: 4, Cols: 2, Data: []float32{0, 1, 1, 0, 1, 0, 2, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if class := head.cosines(make([]float64, 4), []float64{3, 0.5}); class != 1 {
		t.Errorf("class %d", class)
	}
}

// The scatter of many columns is made of tiles; it is the one of the definition.
func TestCovarianceOfManyColumns(t *testing.T) {
	rows := spreadBank(0, 1030, 150) // more than a portion of rows and a tile
	s, mean := newScatter(150), means(rows)
	if err := s.add(t.Context(), rows, mean); err != nil {
		t.Fatal(err)
	}
	sigma := s.covariance(2)
	for i := range 150 {
		for _, j := range []int{0, i, 127, 128, 149} {
			var want float64
			for r := range rows.Rows {
				want += (float64(rows.Row(r)[i]) - mean[i]) * (float64(rows.Row(r)[j]) - mean[j]) / float64(rows.Rows)
			}
			if i == j {
				want += 2
			}
			if math.Abs(sigma.At(i, j)-want) > 1e-12 {
				t.Fatalf("covariance (%d, %d) is %v, want %v", i, j, sigma.At(i, j), want)
			}
		}
	}
}

// methodCase is a method with an input that it can sample.
type methodCase struct {
	method Method
	in     Input
	params Params
}

func methodCases() []methodCase {
	bank := spreadBank(0, 30, 9)
	banks := func(context.Context) ([]matrix.Matrix, error) {
		return []matrix.Matrix{bank, {}, spreadBank(1, 20, 9)}, nil
	}
	crossing := boundaryInput(1, 100, 9, 4, 1)
	return []methodCase{
		{Gaussian{}, Input{Bank: bank, Banks: banks}, Params{K: 5, Select: 8, Noises: 150, Keep: 3, Seed: 4}},
		{NPOS{}, Input{Bank: bank}, Params{K: 5, Select: 8, Pick: 2, Noises: 20, Keep: 2, Sigma: 0.1, Seed: 4}},
		{CrossBoundary{}, crossing, Params{K: 5, Select: 90, Alpha: 0.02, Steps: 100, Beyond: 1}},
		{PCAShell{}, Input{Bank: bank}, Params{K: 5, Select: 8, Lower: 0.9, Upper: 0.95, Seed: 4}},
	}
}

// Any range of samples equals that part of the whole, on any number of workers,
// and what is said of a sample is true.
func TestMethodsRangesEqualTheWhole(t *testing.T) {
	const count = 80
	for _, c := range methodCases() {
		t.Run(c.method.Name(), func(t *testing.T) {
			s := must[Sampler](t, c.method, c.in, c.params)
			anchor := normals("anchor", 0, 1, c.in.Bank.Cols).Data
			whole := collect(t, s, Range{Class: 2, Count: count, Anchor: anchor})
			unit, err := c.in.Bank.Normalised()
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range whole {
				var distances []float64
				for row := range unit.Rows {
					var sum float64
					for j, v := range unit.Row(row) {
						sum += math.Pow(float64(v)-float64(o.Embedding[j]), 2)
					}
					distances = append(distances, sum)
				}
				slices.Sort(distances)
				wrong := max(
					math.Abs(matrix.Norm(o.Embedding)-1),
					math.Abs(float64(o.KthDistance)-distances[c.params.K-1]),
					math.Abs(float64(o.CosineToSource)-matrix.Dot(o.Embedding, unit.Row(o.Source))),
					math.Abs(float64(o.CosineToAnchor)-matrix.Dot(o.Embedding, anchor)/matrix.Norm(anchor)),
					math.Abs(float64(o.SourceKthDistance-s.Boundary().KthDistances[o.Source])),
				)
				if o.Index != i || o.Class != 2 || wrong > 1e-6 {
					t.Fatalf("sample %d is off by %g: %+v", i, wrong, o)
				}
			}
			for _, workers := range []int{1, 2, 7} {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
				again := must[Sampler](t, c.method, c.in, c.params)
				rapid.Check(t, func(t *rapid.T) {
					from := rapid.IntRange(0, count).Draw(t, "from")
					want := whole[from : from+rapid.IntRange(0, min(9, count-from)).Draw(t, "count")]
					err := again.Sample(context.Background(), Range{Class: 2, Offset: from, Count: len(want), Anchor: anchor}, func(o Outlier) error {
						if w := want[0]; !slices.Equal(o.Embedding, w.Embedding) || !equal(o, w) {
							t.Errorf("%+v, in the whole %+v", o, w)
						}
						want = want[1:]
						return nil
					})
					if err != nil || len(want) > 0 {
						t.Errorf("%d samples are missing, %v", len(want), err)
					}
				})
			}
		})
	}
}

// Noise that is brought along gives what the same noise drawn gives.
func TestMethodsTakeNoise(t *testing.T) {
	for _, c := range methodCases() {
		purpose, perRound := "sampler."+c.method.Name()+".noise", max(1, c.params.Noises)
		if c.method == (NPOS{}) || c.method == (CrossBoundary{}) {
			continue // lowlikelihood_test.go has the first; the other draws none
		}
		const rounds = 2
		drawn := collect(t, must[Sampler](t, c.method, c.in, c.params), Range{Class: 6, Count: rounds * max(1, c.params.Keep)})
		c.in.Noise = matrix.New(rounds*perRound, c.in.Bank.Cols)
		for r := range rounds {
			size := perRound * c.in.Bank.Cols
			philox.Normals(c.in.Noise.Data[r*size:(r+1)*size], philox.Key{Seed: c.params.Seed, Purpose: purpose, Class: 6, Index: uint64(r)})
		}
		s := must[Sampler](t, c.method, c.in, c.params)
		clear(c.in.Noise.Data) // it is the caller's
		for i, o := range collect(t, s, Range{Class: 6, Count: len(drawn)}) {
			if !slices.Equal(o.Embedding, drawn[i].Embedding) {
				t.Errorf("%s: sample %d is another one", c.method.Name(), i)
			}
		}
		n := 0
		err := s.Sample(t.Context(), Range{Class: 6, Count: len(drawn) + 1}, func(Outlier) error { n++; return nil })
		if n != 0 || err == nil || !strings.Contains(err.Error(), "it has 2 rounds") {
			t.Errorf("%s: %d samples, then %v", c.method.Name(), n, err)
		}
		c.in.Noise = matrix.New(perRound, c.in.Bank.Cols+1)
		if _, err := c.method.Prepare(t.Context(), c.in, c.params); err == nil || !strings.Contains(err.Error(), "noise: has shape") {
			t.Errorf("%s: noise of the wrong shape: %v", c.method.Name(), err)
		}
	}
}

// A class with fewer embeddings than dimensions has samples too.
func TestMethodsWithFewRows(t *testing.T) {
	bank := spreadBank(0, 5, 100)
	for m, p := range map[Method]Params{
		Gaussian{}: {K: 5, Select: 5, Noises: 10, Keep: 1},
		PCAShell{}: {K: 5, Select: 5, Lower: 0.5, Upper: 0.9},
	} {
		for _, o := range collect(t, must[Sampler](t, m, Input{Bank: bank}, p), Range{Count: 10}) {
			if d := math.Abs(matrix.Norm(o.Embedding) - 1); !(d < 1e-6) {
				t.Errorf("%s: a norm of 1%+g", m.Name(), d)
			}
		}
	}
}

func TestMethodsStop(t *testing.T) {
	for _, c := range methodCases() {
		s := must[Sampler](t, c.method, c.in, c.params)
		enough, n := errors.New("enough"), 0
		err := s.Sample(t.Context(), Range{Count: 80}, func(Outlier) error {
			if n++; n == 7 {
				return enough
			}
			return nil
		})
		if err != enough || n != 7 {
			t.Errorf("%s: %d samples, then %v", c.method.Name(), n, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Sample(ctx, Range{Count: 1}, func(Outlier) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", c.method.Name(), err)
		}
		if _, err := c.method.Prepare(ctx, c.in, c.params); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: prepared when cancelled: %v", c.method.Name(), err)
		}
		for _, r := range []Range{{Offset: -1}, {Count: -1}, {Offset: math.MaxInt, Count: 1}, {Count: 1, Anchor: make([]float32, 3)}} {
			if err := s.Sample(t.Context(), r, func(Outlier) error { return nil }); err == nil {
				t.Errorf("%s: range %+v is no error", c.method.Name(), r)
			}
		}
	}
}

// validatesItself tells the methods that [Params.Validate] is not for; what they
// refuse is in [TestMethodsNameWhatIsWrong].
func validatesItself(m Method) bool {
	switch m.(type) {
	case Gaussian, CrossBoundary, PCAShell:
		return true
	}
	return false
}

// The defaults fit banks of all sizes.
func TestMethodsFitSmallBanks(t *testing.T) {
	for _, m := range []Method{Gaussian{}, NPOS{}, CrossBoundary{}, PCAShell{}} {
		for _, n := range []int{2, 3, 40, 299, 350} {
			in := boundaryInput(0, n, 6, 3, 0.5)
			s := must[Sampler](t, m, in, m.Defaults().FittedTo(n, 6))
			if b := s.Boundary(); b.Size != n || b.Dim != 6 || len(b.Selected) == 0 {
				t.Errorf("%s: the boundary of %d embeddings is %+v", m.Name(), n, b)
			}
			collect(t, s, Range{Count: 1})
		}
	}
}

func TestMethodsNameWhatIsWrong(t *testing.T) {
	for _, m := range []Method{Gaussian{}, NPOS{}, CrossBoundary{}, PCAShell{}} {
		good := func() (Input, Params) {
			in := boundaryInput(0, 20, 8, 3, 1)
			return in, m.Defaults().FittedTo(20, 8)
		}
		if in, p := good(); true {
			if _, err := m.Prepare(t.Context(), in, p); err != nil {
				t.Fatalf("%s: fitted defaults: %v", m.Name(), err)
			}
		}
		for name, c := range map[string]struct {
			spoil func(*Input, *Params)
			want  string
			of    string
		}{
			"k":            {func(_ *Input, p *Params) { p.K = 21 }, "k: is 21", ""},
			"select":       {func(_ *Input, p *Params) { p.Select = 21 }, "select: is 21", ""},
			"no row":       {func(in *Input, _ *Params) { in.Bank = matrix.Matrix{} }, "bank: has shape [0, 0]", ""},
			"one row":      {func(in *Input, p *Params) { in.Bank, *p = matrix.New(1, 8), p.FittedTo(1, 8) }, "bank: has shape [1, 8]", "gaussian boundary pca-shell"},
			"zero row":     {func(in *Input, _ *Params) { clear(in.Bank.Row(3)) }, "bank: row 3 is zero", ""},
			"NaN":          {func(in *Input, _ *Params) { in.Bank.Row(2)[1] = float32(math.NaN()) }, "bank: row 2, column 1 is NaN", ""},
			"mode":         {func(_ *Input, p *Params) { p.Mode = "fast" }, "mode: is \"fast\"", ""},
			"scramble":     {func(_ *Input, p *Params) { p.Mode = ModeReference }, "mode: is \"reference\"", ""},
			"noises":       {func(_ *Input, p *Params) { p.Noises = 0 }, "noises: is 0", "gaussian npos"},
			"many":         {func(_ *Input, p *Params) { p.Noises = 1 << 40 }, "noises: is 1099511627776", "gaussian npos pca-shell"},
			"keep":         {func(_ *Input, p *Params) { p.Keep = 20_000 }, "keep: is 20000", "gaussian npos pca-shell"},
			"pick":         {func(_ *Input, p *Params) { p.Pick = 2 }, "pick: is 2", "gaussian pca-shell"},
			"lower":        {func(_ *Input, p *Params) { p.Lower = 0 }, "lower: is 0", "pca-shell"},
			"upper":        {func(_ *Input, p *Params) { p.Upper = p.Lower }, "upper: is 0.95", "pca-shell"},
			"not a number": {func(_ *Input, p *Params) { p.Upper = math.NaN() }, "upper: is NaN", "pca-shell"},
			"equal":        {func(in *Input, _ *Params) { in.Bank = repeated(20, 8) }, "bank: all embeddings of the class are equal", "pca-shell"},
			"alpha":        {func(_ *Input, p *Params) { p.Alpha = math.Inf(1) }, "alpha: is +Inf", "boundary"},
			"steps":        {func(_ *Input, p *Params) { p.Steps = 1001 }, "steps: is 1001", "boundary"},
			"few":          {func(in *Input, p *Params) { *in, p.Steps = boundaryInput(0, 20, 8, 3, 20), 1 }, "steps: is 1, and no embedding", "boundary"},
			"beyond":       {func(_ *Input, p *Params) { p.Beyond = -1 }, "beyond: is -1", "boundary"},
			"anchors":      {func(in *Input, _ *Params) { in.Anchors = matrix.Matrix{} }, "anchors: are missing", "boundary"},
			"C < 2":        {func(in *Input, _ *Params) { in.Anchors = matrix.New(1, 8) }, "anchors: are of 1 class", "boundary"},
			"width":        {func(in *Input, _ *Params) { in.Anchors = matrix.New(3, 7) }, "anchors: have 7 dimensions", "boundary"},
			"anchor":       {func(in *Input, _ *Params) { clear(in.Anchors.Row(1)) }, "anchors: row 1 is zero", "boundary"},
			"class":        {func(in *Input, _ *Params) { in.Class = 3 }, "class: is 3", "boundary"},
			"noise":        {func(in *Input, _ *Params) { in.Noise = matrix.New(2, 8) }, "noise: has 2 rows", "boundary"},
			"banks": {func(in *Input, _ *Params) {
				in.Banks = func(context.Context) ([]matrix.Matrix, error) { return []matrix.Matrix{matrix.New(3, 8)}, nil }
			}, "banks: are 1", "gaussian"},
			"other bank": {func(in *Input, _ *Params) {
				own := in.Bank
				in.Banks = func(context.Context) ([]matrix.Matrix, error) { return []matrix.Matrix{own, matrix.New(3, 8)}, nil }
			}, "banks: class 1: row 0 is zero", "gaussian"},
			"width of a bank": {func(in *Input, _ *Params) {
				own := in.Bank
				in.Banks = func(context.Context) ([]matrix.Matrix, error) { return []matrix.Matrix{own, matrix.New(3, 7)}, nil }
			}, "banks: have 7 columns in class 1", "gaussian"},
			"no banks": {func(in *Input, _ *Params) {
				in.Banks = func(context.Context) ([]matrix.Matrix, error) { return nil, errors.New("the embedder is gone") }
			}, "banks: the embedder is gone", "gaussian"},
		} {
			if c.of != "" && !slices.Contains(strings.Fields(c.of), m.Name()) {
				continue
			}
			in, p := good()
			c.spoil(&in, &p)
			_, err := m.Prepare(t.Context(), in, p)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error %v, want %q", m.Name(), name, err, c.want)
			}
		}
	}
}

func repeated(n, d int) matrix.Matrix {
	m := matrix.New(n, d)
	for i := range m.Data {
		m.Data[i] = float32(1 + i%d)
	}
	return m
}
