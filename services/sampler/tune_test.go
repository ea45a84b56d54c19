package sampler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
)

// subject is a class of 120 embeddings in 32 dimensions and its first two rounds.
func subject(class uint32) Subject {
	bank := testBank(120, 32)
	anchor := make([]float32, 32)
	for i := range bank.Rows { // the direction that the embeddings have in common
		for j, v := range bank.Row(i) {
			anchor[j] += v
		}
	}
	p := Params{K: 70, Select: 12, Pick: 12, Noises: 40, Sigma: 0.3, Keep: 2, Seed: 9, Mode: ModePaper}
	return Subject{Input: Input{Bank: bank}, Params: p, Range: Range{Class: class, Count: 48, Anchor: anchor}}
}

// drawnAt samples a subject with a sigma, by the public way.
func drawnAt(t *testing.T, s Subject, sigma float64) (Boundary, []Outlier) {
	t.Helper()
	p := s.Params
	p.Sigma = sigma
	sampler := mustPrepare(t, KNN{}, s.Input.Bank, p)
	return sampler.Boundary(), collect(t, sampler, s.Range)
}

// TestTuneMeetsTheGoal samples again with the sigma found, and a little beside it.
func TestTuneMeetsTheGoal(t *testing.T) {
	s := subject(2)
	for _, text := range []string{"0.99", "quantile=0.97", "distance=1.2", "distance=1.7", "cosine=0.3", "cosine=0.7"} {
		g, err := ParseGoal(text)
		if err != nil {
			t.Fatal(err)
		}
		tuned, err := Tune(t.Context(), KNN{}, []Subject{s}, g)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		measure := func(sigma float64) float64 {
			b, out := drawnAt(t, s, sigma)
			r := Describe(b, out)
			switch g.Kind {
			case ByCosine:
				return g.Value - r.MeanCosineToAnchor
			case ByDistance:
				return r.Picked.Median - g.Value
			}
			return r.Picked.Median - quantile(slices.Sorted(slices.Values(b.KthDistances)), g.Value)
		}
		at := measure(tuned.Sigma)
		if below, above := measure(tuned.Sigma*0.99), measure(tuned.Sigma*1.01); math.Abs(at) > 2e-3 || !(below < at) || !(at < above) {
			t.Errorf("%s: sigma %v is off by %v; one per cent lower by %v, higher by %v", text, tuned.Sigma, at, below, above)
		}
		again, err := Tune(t.Context(), KNN{}, []Subject{s}, g)
		if err != nil || again.Sigma != tuned.Sigma || !slices.Equal(again.Trials, tuned.Trials) {
			t.Errorf("%s: the second time sigma is %v, %v", text, again.Sigma, err)
		}
	}
}

// TestTuneOfSeveralClasses puts the median over all samples at the goal, which a class alone may miss.
func TestTuneOfSeveralClasses(t *testing.T) {
	list := []Subject{subject(1), subject(2), subject(3)}
	for i := range list[2].Input.Bank.Data { // the third class is wider
		list[2].Input.Bank.Data[i] += float32(i%7) / 4
	}
	tuned, err := Tune(t.Context(), KNN{}, list, Goal{ByDistance, 1.4})
	if err != nil {
		t.Fatal(err)
	}
	var all []float32
	for _, s := range list {
		_, out := drawnAt(t, s, tuned.Sigma)
		for _, o := range out {
			all = append(all, o.KthDistance)
		}
	}
	if m := median(all); math.Abs(m-1.4) > 2e-3 {
		t.Errorf("the median over all classes is %v", m)
	}
}

func TestTuneSaysWhatCannotBeMet(t *testing.T) {
	s := subject(0)
	none := s
	none.Range.Anchor = nil
	own := context.Canceled
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		method  Method
		s       []Subject
		goal    Goal
		ctx     context.Context
		problem string
	}{
		"inside the class": {KNN{}, []Subject{s}, Goal{ByQuantile, 0.3}, t.Context(), "start at the boundary"},
		"too far":          {KNN{}, []Subject{s}, Goal{ByDistance, 3.5}, t.Context(), "ask for a distance between"},
		"too like":         {KNN{}, []Subject{s}, Goal{ByCosine, 0.999}, t.Context(), "ask for a cosine between"},
		"no anchor":        {KNN{}, []Subject{none}, Goal{ByCosine, 0.4}, t.Context(), "anchors"},
		"no noise":         {noiseless{}, []Subject{s}, Goal{ByQuantile, 0.99}, t.Context(), "no sigma to tune"},
		"no class":         {KNN{}, nil, Goal{ByQuantile, 0.99}, t.Context(), "no class"},
		"cancelled":        {KNN{}, []Subject{s}, Goal{ByQuantile, 0.99}, cancelled, own.Error()},
	} {
		if _, err := Tune(c.ctx, c.method, c.s, c.goal); err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v, want %q", name, err, c.problem)
		}
	}
	for _, text := range []string{"", "x", "1", "0", "-0.1", "nan", "cosine=1", "distance=4", "sigma=0.1", "quantile="} {
		if g, err := ParseGoal(text); err == nil {
			t.Errorf("%q is the goal %v", text, g)
		}
	}
}

// noiseless is a method that has no sigma.
type noiseless struct{ KNN }

func (noiseless) Defaults() Params { return Params{K: 3, Select: 1} }

// TestWarningsAndTheirRemedy finds none at the paper's sigma and one at sigmas that are too large, and the sigma that
// it names takes it away.
func TestWarningsAndTheirRemedy(t *testing.T) {
	s := subject(1)
	s.Input.Bank = testBank(120, 256)
	s.Range.Anchor = nil
	warned := func(m Method, sigma float64) (Report, []string) {
		p := s.Params
		p.Sigma = sigma
		sampler := mustPrepare(t, m, s.Input.Bank, p)
		r := Describe(sampler.Boundary(), collect(t, sampler, s.Range))
		var err error
		if r.NoiseLevel, err = NoiseLevel(t.Context(), s.Input.Bank, p.K); err != nil {
			t.Fatal(err)
		}
		return r, Warnings(m.Name(), p, r)
	}
	if _, w := warned(KNN{}, SigmaForCosine(0.458, 256)); len(w) != 0 {
		t.Errorf("the paper's sigma is warned of: %q", w)
	}
	for _, c := range []struct {
		method  Method
		cosine  float64
		problem string
	}{{KNN{}, 0.08, "close to noise"}, {KNN{}, 0.13, "close to noise"}, {Inlier{}, 0.4, "lie outside of the class"}, {Inlier{}, 0.05, "close to noise"}} {
		sigma := SigmaForCosine(c.cosine, 256)
		_, w := warned(c.method, sigma)
		if len(w) != 1 || !strings.Contains(w[0], c.problem) {
			t.Errorf("%s at cosine %v: %q, want %q", c.method.Name(), c.cosine, w, c.problem)
			continue
		}
		var now, better float64
		at := strings.Index(w[0], "sigma from ")
		if at < 0 {
			t.Errorf("%q names no sigma", w[0])
			continue
		}
		if _, err := fmt.Sscanf(w[0][at:], "sigma from %g to about %g,", &now, &better); err != nil || !(better < now) {
			t.Fatalf("%q names no lower sigma: %v", w[0], err)
		}
		if _, w := warned(c.method, better); len(w) > 0 {
			t.Errorf("%s with the sigma %v that was named: %q", c.method.Name(), better, w)
		}
	}
}

// TestSamplesThatAreID are those of a boundary that is the whole class, hardly moved.
func TestSamplesThatAreID(t *testing.T) {
	bank := testBank(120, 32)
	p := Params{K: 70, Select: 120, Pick: 60, Noises: 1, Sigma: 0.01, Keep: 1, Seed: 3}
	report := func() (Report, []string) {
		s := mustPrepare(t, KNN{}, bank, p)
		r := Describe(s.Boundary(), collect(t, s, Range{Count: 60}))
		return r, Warnings("knn", p, r)
	}
	_, w := report()
	if len(w) != 1 || !strings.Contains(w[0], "the samples are ID") {
		t.Fatalf("warnings %q", w)
	}
	at := strings.Index(w[0], "to about ")
	if at < 0 {
		t.Fatalf("%q names no sigma", w[0])
	}
	if _, err := fmt.Sscanf(w[0][at:], "to about %g,", &p.Sigma); err != nil {
		t.Fatal(err)
	}
	if r, w := report(); len(w) != 0 || r.Picked.Median > r.ID.Max+(r.ID.Max-r.ID.Median)/2 {
		t.Errorf("with sigma %v the median is %v, the farthest ID embedding at %v: %q", p.Sigma, r.Picked.Median, r.ID.Max, w)
	}
	r := Report{Sampled: 9, Compared: 9, Size: 5, Foreign: 0.8, ID: Quantiles{P95: 1}, Picked: Quantiles{Median: 0.5}}
	for name, c := range map[string]struct {
		p    Params
		want string
	}{"gaussian": {Params{Noises: 9}, "raise noises"}, "boundary": {Params{Steps: 9}, "raise alpha or beyond"}, "pca-shell": {Params{Upper: 0.9}, "raise the quantiles"}} {
		if w := Warnings(name, c.p, r); len(w) != 2 || !strings.Contains(w[0], c.want) || !strings.Contains(w[1], "80 %") {
			t.Errorf("%s: warnings %q", name, w)
		}
	}
}

// TestNoiseLevel is near 2 where rows have no common direction, and the same part of a large bank stands for all of it.
func TestNoiseLevel(t *testing.T) {
	half := func(m matrix.Matrix) float64 {
		v, err := NoiseLevel(t.Context(), m, m.Rows/2)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	small := half(testBank(200, 64))
	if math.Abs(small-2) > 0.1 {
		t.Errorf("random directions are at %v", small)
	}
	if large := half(testBank(5000, 64)); math.Abs(large-2) > 0.1 {
		t.Errorf("random directions are at %v of a large bank", large)
	}
	if _, err := NoiseLevel(t.Context(), matrix.New(3, 4), 1); err == nil {
		t.Error("a bank of zeros has directions")
	}
}

// TestTallyKeepsEvenly of many samples only some embeddings, and of few all.
func TestTallyKeepsEvenly(t *testing.T) {
	for _, c := range []struct{ samples, keep, want int }{{5, 10, 5}, {10, 10, 10}, {11, 10, 6}, {1000, 10, 10}, {0, 10, 0}} {
		tally := NewTally(Boundary{Dim: 1}, c.samples, c.keep)
		for i := range c.samples {
			tally.Add(Outlier{Source: i % 3, Embedding: []float32{float32(i)}})
		}
		kept := tally.Kept()
		for i := range kept.Rows {
			if want := float32(i * tally.every); kept.Row(i)[0] != want {
				t.Errorf("%+v: kept %v", c, kept.Data)
			}
		}
		if kept.Rows != c.want || tally.Report().Sampled != c.samples {
			t.Errorf("%+v: %d kept of %d", c, kept.Rows, tally.Report().Sampled)
		}
	}
}
