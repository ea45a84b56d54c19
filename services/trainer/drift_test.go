package trainer

import (
	"math"
	"sync"
	"testing"

	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/score"
)

func normal(n int, seed uint64, by float32) []float32 {
	out := make([]float32, n)
	philox.Normals(out, philox.Key{Seed: seed, Purpose: "drift.test"})
	for i := range out {
		out[i] += by
	}
	return out
}

func calibrated(t *testing.T) (reference, float64) {
	t.Helper()
	c, err := calibrate("energy", score.Widen(normal(1000, 1, 0)), 0.95)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(c.Refused-0.05) > 0.002 || math.Abs(c.Threshold+1.645) > 0.2 {
		t.Fatalf("threshold %g refuses %g", c.Threshold, c.Refused)
	}
	return reference{edges: c.Quantiles[1:calibrationBins], bins: c.Bins, expected: c.Refused}, c.Threshold
}

// TestDriftIsThatOfTheNewestPictures: the window forgets, and tells ID traffic from other traffic.
func TestDriftIsThatOfTheNewestPictures(t *testing.T) {
	r, threshold := calibrated(t)
	w := newWatcher(2)
	if got := w.of("d@1"); got.Size != 0 || got.message() != nil {
		t.Errorf("before any picture: %+v", got)
	}
	w.observe("d@1", r, threshold, normal(3*driftWindow, 2, -2))
	away := w.of("d@1")
	if away.Size != driftWindow || away.Scored != 3*driftWindow || away.Shift.PSI < 1 || away.Refused < 0.5 || away.Shift.PValue > 1e-6 {
		t.Errorf("two deviations away: %+v", away)
	}
	for range driftWindow / 100 {
		w.observe("d@1", r, threshold, normal(100, 3, 0)[:100])
	}
	for i := range uint64(driftWindow / 100) {
		w.observe("d@1", r, threshold, normal(100, 10+i, 0))
	}
	back := w.of("d@1")
	if back.Shift.PSI > 0.1 || math.Abs(back.Refused-0.05) > 0.03 || back.Shift.PValue < 0.001 || back.Scored != 5*driftWindow {
		t.Errorf("back at the calibration: %+v", back)
	}
}

func TestWindowsOfTheDetectorsUsedLastAreKept(t *testing.T) {
	r, threshold := calibrated(t)
	w := newWatcher(2)
	for _, name := range []string{"a", "b", "a", "c"} {
		w.observe(name, r, threshold, normal(10, 1, 0))
	}
	list := w.windows()
	if len(list) != 2 || list[0].Detector != "a" || list[0].Scored != 20 || list[1].Detector != "c" {
		t.Errorf("windows %+v", list)
	}
	w.observe("old", reference{}, threshold, normal(10, 1, 0))
	if len(w.windows()) != 2 {
		t.Error("a detector without a calibration has a window")
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				w.observe("c", r, threshold, normal(10, 1, 0))
				w.windows()
			}
		})
	}
	group.Wait()
	if got := w.of("c").Scored; got != 10+8*50*10 {
		t.Errorf("%d pictures were noted", got)
	}
}
