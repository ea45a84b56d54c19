package sampler

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
)

func TestLookup(t *testing.T) {
	for _, m := range Methods() {
		got, err := Lookup(m.Name())
		if err != nil || got != m || m.Summary() == "" {
			t.Errorf("Lookup(%q) = %v, %v", m.Name(), got, err)
		}
		if err := m.Defaults().Validate(1000, PaperDim); err != nil && !validatesItself(m) {
			t.Errorf("defaults of %s: %v", m.Name(), err)
		}
	}
	if m, err := Lookup(""); err != nil || m.Name() != "knn" {
		t.Errorf("Lookup(\"\") = %v, %v", m, err)
	}
	if _, err := Lookup("vos"); err == nil || !strings.Contains(err.Error(), "knn, inlier") {
		t.Errorf("Lookup of an unknown method: %v", err)
	}
}

// The cosines of the paper's three sigmas, as derived in docs/method.md.
func TestSigmaAndCosine(t *testing.T) {
	for sigma, want := range map[float64]float64{0.07: 0.458, 0.03: 0.769, 0.01: 0.964} {
		cosine := CosineForSigma(sigma, PaperDim)
		if math.Abs(cosine-want) > 5e-4 {
			t.Errorf("sigma %v: cosine %v, want %v", sigma, cosine, want)
		}
		if back := SigmaForCosine(cosine, PaperDim); math.Abs(back-sigma) > 1e-15 {
			t.Errorf("sigma %v comes back as %v", sigma, back)
		}
	}
	// And what samples really have: their mean over all noises is that cosine.
	p := Params{K: 1, Select: 1, Pick: 1, Noises: 200, Sigma: 0.07, Keep: 200}
	samples := collect(t, mustPrepare(t, KNN{}, testBank(2, PaperDim), p), Range{Count: 200})
	r := Describe(Boundary{}, samples)
	if math.Abs(r.MeanCosineToSource-0.458) > 0.01 { // five standard errors of 1/sqrt(768·200), rounded up
		t.Errorf("mean cosine to the source is %v", r.MeanCosineToSource)
	}
}

func TestValidateReportsEveryProblem(t *testing.T) {
	var ps Problems
	err := Params{K: 300, Select: 50, Pick: 60, Noises: 2, Keep: 3, Sigma: math.NaN(), Mode: "fast"}.Validate(40, 16)
	if !errors.As(err, &ps) {
		t.Fatalf("error %v", err)
	}
	var fields []string
	for _, p := range ps {
		fields = append(fields, p.Field)
	}
	if got := strings.Join(fields, " "); got != "k select pick keep sigma mode" {
		t.Errorf("problems with %q", got)
	}
	if !strings.Contains(err.Error(), "k: is 300, but the bank of this class has 40 embeddings; lower k to at most 40") {
		t.Errorf("no remedy in %q", err)
	}
	if err := (Params{}).Validate(0, 0); !errors.As(err, &ps) || len(ps) != 7 {
		t.Errorf("zero parameters: %v", err)
	}
	if _, err := (KNN{}).Prepare(t.Context(), Input{Bank: testBank(40, 16)}, KNN{}.Defaults()); !errors.As(err, &ps) {
		t.Errorf("Prepare of a small bank: %v", err)
	}
}

func TestFittedTo(t *testing.T) {
	for _, m := range Methods() {
		for _, n := range []int{1, 2, 40, 299, 300, 5000} {
			p := m.Defaults().FittedTo(n, 128)
			if err := p.Validate(n, 128); err != nil && !validatesItself(m) {
				t.Errorf("%s fitted to %d: %v", m.Name(), n, err)
			}
			a, b := CosineForSigma(p.Sigma, 128), CosineForSigma(m.Defaults().Sigma, PaperDim)
			if math.Abs(a-b) > 1e-12 {
				t.Errorf("%s: cosine %v, in the paper %v", m.Name(), a, b)
			}
		}
	}
}

func TestBadBank(t *testing.T) {
	p := Params{K: 1, Select: 1, Pick: 1, Noises: 1, Keep: 1, Sigma: 1}
	bank := testBank(3, 4)
	copy(bank.Row(1), make([]float32, 4))
	if _, err := (KNN{}).Prepare(t.Context(), Input{Bank: bank}, p); err == nil || !strings.Contains(err.Error(), "bank: row 1 is zero") {
		t.Errorf("zero row: %v", err)
	}
	bank.Row(2)[3] = float32(math.NaN())
	if _, err := (KNN{}).Prepare(t.Context(), Input{Bank: bank}, p); err == nil || !strings.Contains(err.Error(), "row 2, column 3 is NaN") {
		t.Errorf("NaN: %v", err)
	}
}

// Outliers lie farther out than the boundary, inliers further in than the core.
func TestDirections(t *testing.T) {
	bank := testBank(200, 32)
	p := Params{K: 20, Select: 30, Pick: 15, Noises: 100, Keep: 2, Sigma: SigmaForCosine(0.458, 32), Seed: 1}
	s := mustPrepare(t, KNN{}, bank, p)
	out := Describe(s.Boundary(), collect(t, s, Range{Count: 60}))
	if out.Boundary.Min < out.ID.P75 || out.Picked.Median < out.ID.Max || out.BeyondID < 0.9 {
		t.Errorf("outliers: %+v", out)
	}
	if out.Size != 200 || out.Selected != 30 || out.Sampled != 60 || out.Sources < 15 {
		t.Errorf("counts: %+v", out)
	}
	p.Sigma, p.Select, p.Keep = SigmaForCosine(0.964, 32), 5000, 1
	s = mustPrepare(t, Inlier{}, bank, p)
	in := Describe(s.Boundary(), collect(t, s, Range{Count: 60}))
	if in.Selected != 200 || in.Picked.Median > in.ID.Median || in.MeanCosineToSource < 0.95 {
		t.Errorf("inliers: %+v", in)
	}
}

func TestForeignShare(t *testing.T) {
	east := matrix.Matrix{Rows: 2, Cols: 2, Data: []float32{2, 0, 3, 0.1}}
	north := matrix.Matrix{Rows: 1, Cols: 2, Data: []float32{0, 5}}
	samples := []Outlier{{Embedding: []float32{0.8, 0.6}}, {Embedding: []float32{0.6, 0.8}}, {Embedding: []float32{-1, 0}}, {Embedding: []float32{0, 1}}}
	share, err := ForeignShare(t.Context(), []matrix.Matrix{east, north, {}}, 0, samples)
	if err != nil || share != 0.75 {
		t.Errorf("share %v, error %v", share, err)
	}
	if share, err := ForeignShare(t.Context(), []matrix.Matrix{east}, 0, nil); err != nil || share != 0 {
		t.Errorf("no samples: %v, %v", share, err)
	}
	if _, err := ForeignShare(t.Context(), []matrix.Matrix{east}, 1, samples); err == nil {
		t.Error("a class without a bank is no error")
	}
}

func TestQuantiles(t *testing.T) {
	got := quantiles([]float32{4, 1, 3, 2, 5})
	want := Quantiles{Min: 1, P05: 1.2, P25: 2, Median: 3, P75: 4, P95: 4.8, Max: 5} // numpy.quantile
	for _, p := range [][2]float64{{got.Min, want.Min}, {got.P05, want.P05}, {got.P25, want.P25}, {got.Median, want.Median}, {got.P75, want.P75}, {got.P95, want.P95}, {got.Max, want.Max}} {
		if math.Abs(p[0]-p[1]) > 1e-12 {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	if quantiles(nil) != (Quantiles{}) {
		t.Error("quantiles of nothing")
	}
}
