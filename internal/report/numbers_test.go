package report

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestTicksAreRoundAndInside(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		n      int
		want   string
	}{
		{0, 100, 5, "0 20 40 60 80 100"},
		{-1.2, 11.3, 5, "0 2 4 6 8 10"},
		{0, 2.35, 5, "0.0 0.5 1.0 1.5 2.0"},
		{-0.04, 0.05, 4, "−0.04 −0.02 0.00 0.02 0.04"},
		{0, 12500, 5, "0 2,000 4,000 6,000 8,000 10,000 12,000"},
		{3, 3, 3, "2.8 3.0 3.2"},
		{math.NaN(), 1, 2, "0.0 0.5 1.0"},
	} {
		at, labels := ticks(c.lo, c.hi, c.n)
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("ticks(%v, %v, %d) are %s, want %s", c.lo, c.hi, c.n, got, c.want)
		}
		if lo, hi := spread(c.lo, c.hi); at[0] < lo-1e-9 || at[len(at)-1] > hi+1e-9 {
			t.Errorf("ticks %v leave %v..%v", at, lo, hi)
		}
	}
}

func TestTicksOfAnyRangeAreFew(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		lo := rng.NormFloat64() * math.Pow(10, float64(rng.IntN(30)-15))
		hi := lo + math.Abs(rng.NormFloat64())*math.Pow(10, float64(rng.IntN(30)-15))
		if at, _ := ticks(lo, hi, 5); len(at) > 51 {
			t.Fatalf("%d ticks over %v..%v", len(at), lo, hi)
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		percent(0.41312): "41.3", percent(math.NaN()): noData, percent(-0.0001): "0.0", percentSign(1): "100.0\u202f%",
		points(-0.0712): "−7.1", points(0.0712): "+7.1", points(0.0004): "0.0", points(-0.0004): "0.0",
		count(7): "7", count(1234567): "1,234,567", count(-1234): "-1,234", plural(1, "set", "sets"): "1 set",
		short("automobile", 6): "autom…", visible("a\x00b\nc\xffd"): "a\ufffdb c\ufffdd", coordinate(-0.01): "0",
		interval([]float64{3, 1, 2, math.NaN()}, 1): "1.0 to 3.0, median 2.0", interval(nil, 1): noData,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestQuantileInterpolates(t *testing.T) {
	v := []float64{4, 1, math.Inf(1), 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.25: 1.75} {
		if got := quantile(v, q); math.Abs(got-want) > 1e-12 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("the quantile of nothing is a number")
	}
}

// TestAreaError repeats the example of Hanley and McNeil (1982): an area of 0.893 on 51 and 58 cases, error 0.032.
func TestAreaError(t *testing.T) {
	if got := areaError(0.893, 51, 58); math.Abs(got-0.0325) > 5e-4 {
		t.Errorf("error %.4f, want 0.0325", got)
	}
	if !math.IsNaN(areaError(0.9, 0, 5)) || !math.IsNaN(shareError(math.NaN(), 5)) || !math.IsNaN(shareError(0.5, 0)) {
		t.Error("an error without pictures or value is a number")
	}
	if e := shareError(0, 100); !(e > 0.005 && e < 0.03) {
		t.Errorf("0 %% of 100 pictures has the error %v", e)
	}
}

// TestRateErrorIsTheSpreadOfFPR95 compares the formula, on the exact ROC curve of two normal distributions, with the
// spread over repeated draws of the test pictures. The spread of 500 draws is known to 3 %, and the slope is taken
// over a hundredth or two of a curve that bends: 10 % is allowed.
func TestRateErrorIsTheSpreadOfFPR95(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const nID, nOOD, repeats, shift = 400, 300, 500, 2
	draw := func(n int, mean float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = mean + rng.NormFloat64()
		}
		return out
	}
	var sum, square float64
	for range repeats {
		v := above(draw(nOOD, 0), quantile(draw(nID, shift), 0.05))
		sum, square = sum+v, square+v*v
	}
	want := math.Sqrt((square - sum*sum/repeats) / (repeats - 1))
	beyond := func(x float64) float64 { return math.Erfc(x/math.Sqrt2) / 2 }
	var r OODResult
	for x := 5.0; x > -3; x -= 0.02 {
		r.ROCFPR, r.ROCTPR = append(r.ROCFPR, float32(beyond(x))), append(r.ROCTPR, float32(beyond(x-shift)))
	}
	r.FPR95 = curveAt(r.ROCTPR, r.ROCFPR, 0.95)
	got := metrics()[0].stderr(r, nID, nOOD)
	if math.Abs(got/want-1) > 0.10 {
		t.Errorf("the formula gives %.4f, %d draws spread by %.4f", got, repeats, want)
	}
	if naive := shareError(r.FPR95, nOOD); naive > 0.9*got {
		t.Errorf("the threshold adds nothing: %.4f of %.4f", naive, got)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		from, to, err float64
		higher        bool
		want, text    string
	}{
		{0.50, 0.40, 0.01, false, "better", "−10.0"},
		{0.40, 0.50, 0.01, false, "worse", "+10.0"},
		{0.50, 0.40, 0.01, true, "worse", "−10.0"},
		{0.40, 0.50, 0.01, true, "better", "+10.0"},
		{0.40, 0.41, 0.01, true, "unclear", "+1.0"},
		{0.40, 0.41, math.NaN(), true, "better", "+1.0"},
		{0.40, 0.4001, 0.01, true, "same", "0.0"},
		{math.NaN(), 0.4, 0.01, true, "", noData},
	} {
		got := compare(estimate{c.from, c.err}, estimate{c.to, c.err}, c.higher)
		if got.Verdict != c.want || got.Text != c.text {
			t.Errorf("%v to %v, higher %v: %s %q, want %s %q", c.from, c.to, c.higher, got.Text, got.Verdict, c.text, c.want)
		}
	}
}

func TestMeanTakesSetsThatAllDetectorsHave(t *testing.T) {
	ds := []Detector{
		{OOD: []OODResult{{Name: "a", FPR95: 0.2}, {Name: "b", FPR95: 0.4}, {Name: "only", FPR95: 1}}},
		{OOD: []OODResult{{Name: "b", FPR95: 0.3}, {Name: "a", FPR95: 0.1}, {Name: "c", FPR95: 1, Apart: "easy"}}},
	}
	sets := oodSets(ds)
	if len(sets) != 4 {
		t.Fatalf("%d sets, want 4", len(sets))
	}
	in := counted(sets)
	if len(in) != 2 || len(sets) != 4 {
		t.Fatalf("%d of %d sets count, want 2 of 4", len(in), len(sets))
	}
	for i, want := range []float64{0.3, 0.2} {
		if got := meanOf(in, metrics()[0], ds, i).Value; math.Abs(got-want) > 1e-12 {
			t.Errorf("detector %d has the mean %v, want %v", i, got, want)
		}
	}
	if got := meanOf(nil, metrics()[0], ds, 0).Value; !math.IsNaN(got) {
		t.Errorf("the mean of no sets is %v", got)
	}
}

func TestCurveAtTakesEitherOrder(t *testing.T) {
	x, y := []float32{0, 0.5, 1}, []float32{0, 0.8, 1}
	if got := curveAt(x, y, 0.25); math.Abs(got-0.4) > 1e-6 {
		t.Errorf("got %v, want 0.4", got)
	}
	slices.Reverse(x)
	slices.Reverse(y)
	if got := curveAt(x, y, 0.25); math.Abs(got-0.4) > 1e-6 {
		t.Errorf("reversed: got %v, want 0.4", got)
	}
	if !math.IsNaN(curveAt(x, y, 2)) || !math.IsNaN(curveAt(nil, nil, 0.5)) {
		t.Error("a curve that does not reach so far gives a number")
	}
}

func TestSharesAddUp(t *testing.T) {
	var sum float64
	for _, s := range shares([]float64{-5, 0, 0.5, 1, 9}, 0, 1) {
		sum += s
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("the bars add up to %v", sum)
	}
}
