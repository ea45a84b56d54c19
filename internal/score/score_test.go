package score

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"pgregory.net/rapid"
)

type metricsCase struct {
	Metrics
	NID       int `json:"n_id"`
	NOOD      int `json:"n_ood"`
	Shift     float64
	Decimals  int
	Distinct  int
	ROC       [][]float64
	Histogram []int
}

type vectors struct {
	Metrics []metricsCase
	Scores  struct {
		MSP, MaxLogit, Energy []float64
		EnergyT2              []float64 `json:"energy_t2"`
	}
}

func load(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/score.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// draw is n normals, shifted, rounded down to multiples of 2^-decimals.
func draw(n int, seed uint64, shift float64, decimals int) []float64 {
	x := make([]float32, n)
	philox.Normals(x, philox.Key{Seed: seed, Purpose: "score"})
	out := make([]float64, n)
	for i, v := range x {
		out[i] = math.Ldexp(math.Floor(math.Ldexp(float64(v)+shift, decimals)), -decimals)
	}
	return out
}

func TestMetricsAgainstScikitLearn(t *testing.T) {
	var worst float64
	for _, c := range load(t).Metrics {
		id, ood := draw(c.NID, 1, c.Shift, c.Decimals), draw(c.NOOD, 2, 0, c.Decimals)
		table, err := newTable(id, ood)
		if err != nil {
			t.Fatal(err)
		}
		if len(table) != c.Distinct {
			t.Errorf("%d distinct scores, want %d", len(table), c.Distinct)
		}
		m, err := Evaluate(id, ood)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []struct {
			name      string
			got, want float64
		}{
			{"AUROC", m.AUROC, c.AUROC}, {"AUPR-in", m.AUPRIn, c.AUPRIn}, {"AUPR-out", m.AUPROut, c.AUPROut},
			{"FPR95 ID positive", m.FPR95IDPositive, c.FPR95IDPositive}, {"FPR95 OOD positive", m.FPR95OODPositive, c.FPR95OODPositive},
			{"threshold", m.Threshold95, c.Threshold95},
		} {
			worst = max(worst, math.Abs(p.got-p.want))
			if math.Abs(p.got-p.want) > 1e-14 {
				t.Errorf("%d against %d, 2^-%d: %s is %v, want %v", c.NID, c.NOOD, c.Decimals, p.name, p.got, p.want)
			}
		}
		if threshold, err := ThresholdAtRecall(id, 0.95); err != nil || threshold != c.Threshold95 {
			t.Errorf("threshold at 0.95 is %v (%v), want %v", threshold, err, c.Threshold95)
		}
		h, err := NewHistogram(id, ood, 7)
		if err != nil || !slices.Equal(h.ID, c.Histogram) {
			t.Errorf("histogram %v (%v), want %v", h.ID, err, c.Histogram)
		}
		if c.ROC == nil {
			continue
		}
		roc, err := ROC(id, ood, 0)
		if err != nil || len(roc) != len(c.ROC[0]) {
			t.Fatalf("%d points of the ROC curve (%v), want %d", len(roc), err, len(c.ROC[0]))
		}
		for i, p := range roc {
			if math.Abs(p.FPR-c.ROC[0][i]) > 1e-15 || math.Abs(p.TPR-c.ROC[1][i]) > 1e-15 {
				t.Errorf("ROC point %d is %v, want (%v, %v)", i, p, c.ROC[0][i], c.ROC[1][i])
			}
		}
	}
	t.Logf("largest difference %.1e", worst)
}

func TestScoresAgainstSciPy(t *testing.T) {
	v := load(t).Scores
	logits := matrix.New(12, 10)
	philox.Normals(logits.Data, philox.Key{Seed: 3, Purpose: "score"})
	for i := range logits.Data {
		logits.Data[i] *= 4
	}
	for j := range 10 {
		logits.Row(0)[j], logits.Row(2)[j] = 0, -300
	}
	logits.Row(1)[3] = 300
	for name, c := range map[string]struct {
		score func([]float32) float64
		want  []float64
	}{
		"msp": {MSP, v.MSP}, "maxlogit": {MaxLogit, v.MaxLogit}, "energy": {func(f []float32) float64 { return Energy(f, 1) }, v.Energy},
		"energy T=2": {func(f []float32) float64 { return Energy(f, 2) }, v.EnergyT2},
	} {
		for i, want := range c.want {
			if got := c.score(logits.Row(i)); math.Abs(got-want) > 1e-12*max(1, math.Abs(want)) {
				t.Errorf("%s of row %d is %v, want %v", name, i, got, want)
			}
		}
	}
}

// The definitions, sample by sample, under heavy ties.
func TestMetricsAgainstTheDefinitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.Map(rapid.IntRange(-3, 3), func(i int) float64 { return float64(i) }), 1, 40)
		id, ood := gen.Draw(t, "id"), gen.Draw(t, "ood")
		m, err := Evaluate(id, ood)
		if err != nil {
			t.Fatal(err)
		}
		wins := 0.0
		for _, a := range id {
			for _, b := range ood {
				if a > b {
					wins++
				} else if a == b {
					wins += 0.5
				}
			}
		}
		if want := wins / float64(len(id)*len(ood)); math.Abs(m.AUROC-want) > 1e-14 {
			t.Errorf("AUROC %v, want %v", m.AUROC, want)
		}
		accepted := func(s []float64, from float64) float64 {
			n := 0
			for _, v := range s {
				if v >= from {
					n++
				}
			}
			return float64(n) / float64(len(s))
		}
		if accepted(id, m.Threshold95) < 0.95 || m.FPR95IDPositive != accepted(ood, m.Threshold95) {
			t.Errorf("threshold %v accepts %v of ID and %v of OOD, FPR95 %v", m.Threshold95, accepted(id, m.Threshold95), accepted(ood, m.Threshold95), m.FPR95IDPositive)
		}
		if up := accepted(id, m.Threshold95+1); up >= 0.95 {
			t.Errorf("a higher threshold still accepts %v of ID", up)
		}
		recall := rapid.Float64Range(0.01, 1).Draw(t, "recall")
		th, err := ThresholdAtRecall(id, recall)
		if err != nil || accepted(id, th) < recall || accepted(id, th+1) >= recall {
			t.Errorf("threshold %v at recall %v (%v) accepts %v, one higher %v", th, recall, err, accepted(id, th), accepted(id, th+1))
		}
	})
}

func TestErrorsNameTheIndex(t *testing.T) {
	good, bad := []float64{1, 2}, []float64{1, 2, math.NaN()}
	if _, err := Evaluate(bad, good); err == nil || !strings.Contains(err.Error(), "ID score 2 is NaN") {
		t.Errorf("NaN: %v", err)
	}
	if _, err := Evaluate(good, []float64{math.Inf(1)}); err == nil || !strings.Contains(err.Error(), "OOD score 0 is +Inf") {
		t.Errorf("infinity: %v", err)
	}
	if _, err := Evaluate(good, nil); err == nil || !strings.Contains(err.Error(), "no OOD scores") {
		t.Errorf("empty: %v", err)
	}
	if _, err := ROC(nil, good, 5); err == nil {
		t.Error("ROC of nothing")
	}
	if _, err := NewHistogram(good, good, 0); err == nil {
		t.Error("histogram of no bins")
	}
	if _, err := ThresholdAtRecall(good, 0); err == nil {
		t.Error("threshold at recall 0")
	}
	if _, err := Bootstrap(good, good, 1, 0.95, 0); err == nil {
		t.Error("bootstrap with one resample")
	}
}

func TestROCIsThinned(t *testing.T) {
	id, ood := draw(3000, 1, 2, 30), draw(2000, 2, 0, 30)
	roc, err := ROC(id, ood, 101)
	if err != nil {
		t.Fatal(err)
	}
	if len(roc) > 101 || len(roc) < 90 {
		t.Fatalf("%d points", len(roc))
	}
	if roc[0].FPR != 0 || roc[0].TPR != 0 || roc[0].Threshold != nil || roc[len(roc)-1].FPR != 1 || roc[len(roc)-1].TPR != 1 {
		t.Errorf("ends %v and %v", roc[0], roc[len(roc)-1])
	}
	m, _ := Evaluate(id, ood)
	area := 0.0
	for i, p := range roc[1:] {
		if p.FPR < roc[i].FPR || p.TPR < roc[i].TPR {
			t.Fatalf("point %d goes back", i+1)
		}
		area += (p.FPR - roc[i].FPR) * (p.TPR + roc[i].TPR) / 2
	}
	if math.Abs(area-m.AUROC) > 1e-3 { // chords under a concave curve
		t.Errorf("area under 101 points %v, AUROC %v", area, m.AUROC)
	}
}

// The interval holds the estimate, and its width is that of theory: the
// standard error of AUROC by Hanley and McNeil (1982).
func TestBootstrap(t *testing.T) {
	id, ood := draw(400, 1, 1.5, 30), draw(400, 2, 0, 30)
	m, _ := Evaluate(id, ood)
	a, err := Bootstrap(id, ood, 400, 0.95, 1)
	if err != nil {
		t.Fatal(err)
	}
	q1, q2 := m.AUROC/(2-m.AUROC), 2*m.AUROC*m.AUROC/(1+m.AUROC)
	se := math.Sqrt((m.AUROC*(1-m.AUROC) + 399*(q1-m.AUROC*m.AUROC) + 399*(q2-m.AUROC*m.AUROC)) / (400 * 400))
	width := a.AUROC.High - a.AUROC.Low
	if a.AUROC.Low > m.AUROC || a.AUROC.High < m.AUROC || width < 0.7*2*1.96*se || width > 1.4*2*1.96*se {
		t.Errorf("AUROC %v in %+v; 2·1.96 standard errors are %v", m.AUROC, a.AUROC, 2*1.96*se)
	}
	if a.FPR95IDPositive.Low > m.FPR95IDPositive || a.FPR95IDPositive.High < m.FPR95IDPositive {
		t.Errorf("FPR95 %v in %+v", m.FPR95IDPositive, a.FPR95IDPositive)
	}
	b, _ := Bootstrap(id, ood, 400, 0.95, 1)
	c, _ := Bootstrap(id, ood, 400, 0.95, 2)
	if a != b || a == c {
		t.Error("the seed does not decide the interval")
	}
}

func TestHistogramCountsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.Float64Range(-1e3, 1e3), 1, 30)
		id, ood := gen.Draw(t, "id"), gen.Draw(t, "ood")
		bins := rapid.IntRange(1, 9).Draw(t, "bins")
		h, err := NewHistogram(id, ood, bins)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for b := range bins {
			in := 0
			for _, v := range id {
				if v >= h.Edges[b] && (v < h.Edges[b+1] || b == bins-1) {
					in++
				}
			}
			if in != h.ID[b] {
				t.Fatalf("bin %d holds %d, counted %d", b, in, h.ID[b])
			}
			sum += h.ID[b] + h.OOD[b]
		}
		if sum != len(id)+len(ood) {
			t.Fatalf("%d of %d counted", sum, len(id)+len(ood))
		}
	})
}
