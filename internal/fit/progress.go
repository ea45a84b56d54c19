package fit

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/train"
)

// Progress is how far a training is.
type Progress struct {
	Done, Total int64   // steps
	Last        Point   // of the last step alone
	PerSecond   float64 // pictures, lately; 0 when it is not known yet
	Curve       []Point // so far; not to be kept
}

// String is "loss 1.234 ▇▅▃▂▁, accuracy 57.0 %, 350 images/s": the last values are those of the curve, and the picture is
// that of its total loss.
func (p Progress) String() string {
	last := p.Last
	if n := len(p.Curve); n > 0 {
		last = p.Curve[n-1]
	}
	text := fmt.Sprintf("loss %.3f", last.Total)
	if len(p.Curve) > 1 {
		text += " " + Sparkline(p.Curve, 16)
	}
	text += fmt.Sprintf(", accuracy %.1f %%", 100*last.Accuracy)
	if p.PerSecond > 0 {
		text += fmt.Sprintf(", %.3g images/s", p.PerSecond)
	}
	return text
}

// Sparkline draws the total loss of a curve in at most so many characters, from its lowest to its highest value.
func Sparkline(curve []Point, width int) string {
	n := min(width, len(curve))
	values := make([]float64, n)
	low, high := math.Inf(1), math.Inf(-1)
	for i := range values {
		from, to := i*len(curve)/n, (i+1)*len(curve)/n
		for _, p := range curve[from:to] {
			values[i] += p.Total / float64(to-from)
		}
		low, high = min(low, values[i]), max(high, values[i])
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var out strings.Builder
	for _, v := range values {
		at := 0
		if high > low {
			at = int((v - low) / (high - low) * float64(len(levels)-1))
		}
		out.WriteRune(levels[at])
	}
	return out.String()
}

// mean of the losses of some steps.
type mean struct {
	sum Point
	n   float64
}

func (m *mean) add(l train.Losses) {
	p := pointOf(0, l)
	m.sum.Total, m.sum.CE, m.sum.OOD, m.sum.Accuracy = m.sum.Total+p.Total, m.sum.CE+p.CE, m.sum.OOD+p.OOD, m.sum.Accuracy+p.Accuracy
	m.n++
}

// point is the mean, which begins anew.
func (m *mean) point(step int64) Point {
	p := Point{Step: step, Total: m.sum.Total / m.n, CE: m.sum.CE / m.n, OOD: m.sum.OOD / m.n, Accuracy: m.sum.Accuracy / m.n}
	*m = mean{}
	return p
}

func pointOf(step int64, l train.Losses) Point {
	return Point{Step: step, Total: l.Total, CE: l.CE, OOD: l.OOD, Accuracy: float64(l.Correct) / float64(max(1, l.Rows))}
}

// speedometer counts pictures per second over the last ten seconds or so.
type speedometer struct {
	pictures int // of a step
	began    time.Time
	steps    int
	last     float64
}

func (s *speedometer) stepped() {
	now := time.Now()
	if s.began.IsZero() { // the first step allocates
		s.began = now
		return
	}
	s.steps++
	if took := now.Sub(s.began).Seconds(); took > 0 {
		s.last = float64(s.steps*s.pictures) / took
		if took > 10 {
			s.began, s.steps = now, 0
		}
	}
}

func (s *speedometer) perSecond() float64 { return s.last }
