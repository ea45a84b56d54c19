package score

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/philox"
)

// TestResampledIsTheMetricsOfTheDrawnPictures compares with the metrics of a list in which every picture stands as often
// as it was drawn.
func TestResampledIsTheMetricsOfTheDrawnPictures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOfN(rapid.Map(rapid.IntRange(-4, 4), func(i int) float64 { return float64(i) / 2 }), 1, 30)
		id, ood := scores.Draw(t, "id"), scores.Draw(t, "ood")
		s, err := NewSample(id, ood)
		if err != nil {
			t.Fatal(err)
		}
		key := philox.Key{Seed: rapid.Uint64().Draw(t, "seed"), Purpose: "test"}
		di := Draws(len(id), key)
		key.Step = 1
		do := Draws(len(ood), key)
		repeat := func(values []float64, n []int32) (out []float64) {
			for i, v := range values {
				out = append(out, slices.Repeat([]float64{v}, int(n[i]))...)
			}
			return out
		}
		want, err := Evaluate(repeat(id, di), repeat(ood, do))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Resampled(di, do); got != want {
			t.Fatalf("resampled %+v, of the list %+v", got, want)
		}
		if all, _ := Evaluate(id, ood); s.Metrics() != all {
			t.Fatalf("as they are %+v, want %+v", s.Metrics(), all)
		}
	})
}

func TestDrawsAreAsManyAsThereArePictures(t *testing.T) {
	var sum, twice int
	for _, n := range Draws(10000, philox.Key{Seed: 1, Purpose: "test"}) {
		sum += int(n)
		if n == 0 {
			twice++
		}
	}
	// e⁻¹ of the pictures are not drawn, with a standard deviation of 0.3 points.
	if sum != 10000 || math.Abs(float64(twice)/10000-math.Exp(-1)) > 0.02 {
		t.Errorf("%d draws, %d pictures are in none", sum, twice)
	}
}

// TestECE compares with a calculation by hand: 3 of 4 right at 0.9 and 1 of 2 at 0.6, in bins of their own.
func TestECE(t *testing.T) {
	confidence := []float32{0.9, 0.9, 0.9, 0.9, 0.6, 0.6}
	right := []bool{true, true, true, false, true, false}
	got, err := ECE(confidence, right)
	if want := (4*math.Abs(0.75-0.9) + 2*math.Abs(0.5-0.6)) / 6; err != nil || math.Abs(got-want) > 1e-6 {
		t.Errorf("calibration error %g, want %g, %v", got, want, err)
	}
	if got, err := ECE([]float32{1, 0}, []bool{true, false}); err != nil || got != 0 {
		t.Errorf("certain and right: %g, %v", got, err)
	}
	for _, bad := range []float32{float32(math.NaN()), -0.1, 1.1} {
		if _, err := ECE([]float32{bad}, []bool{true}); err == nil || !strings.Contains(err.Error(), "confidence 0") {
			t.Errorf("confidence %g: %v", bad, err)
		}
	}
	if _, err := ECE(nil, nil); err == nil {
		t.Error("no pictures have a calibration error")
	}
}

// TestShift draws windows from the calibration's own distribution and from one that is moved by half a deviation.
func TestShift(t *testing.T) {
	draw := func(n int, seed uint64, by float64) []float64 {
		x := make([]float32, n)
		philox.Normals(x, philox.Key{Seed: seed, Purpose: "shift"})
		out := make([]float64, n)
		for i, v := range x {
			out[i] = float64(v) + by
		}
		return out
	}
	held := draw(500, 1, 0)
	edges := Quantiles(held, 20)[1:20]
	counts := func(values []float64) []int {
		out := make([]int, 20)
		for _, v := range values {
			out[Bin(edges, v)]++
		}
		return out
	}
	calibration := counts(held)
	for i, n := range calibration {
		if n < 24 || n > 26 { // 500 / 20
			t.Errorf("bin %d of the calibration holds %d pictures", i, n)
		}
	}
	alarms := 0
	for seed := range uint64(100) {
		if ShiftOf(counts(draw(1000, 2+seed, 0)), calibration).PValue < 0.05 {
			alarms++
		}
	}
	if alarms > 12 { // 5 are expected at most; 12 has a chance of 0.1 %
		t.Errorf("%d of 100 windows without a shift have a p-value below 0.05", alarms)
	}
	s := ShiftOf(counts(draw(1000, 7, 0.5)), calibration)
	// Normals half a deviation apart have a KS of 2Φ(1/4)−1 = 0.197 and a PSI of 1/4.
	if math.Abs(s.KS-0.197) > 0.06 || math.Abs(s.PSI-0.25) > 0.12 || s.PValue > 1e-4 {
		t.Errorf("half a deviation: %+v", s)
	}
	if s := ShiftOf(make([]int, 20), calibration); s.PSI != 0 || s.PValue != 1 {
		t.Errorf("an empty window: %+v", s)
	}
}
