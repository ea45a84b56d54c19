package evaluation

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/score"
)

// Resamples and Level are those of all intervals, and Seed their seed.
const (
	Resamples = 1000
	Level     = 0.95
	seed      = 1
)

// Summary are the figures of a measurement: metrics.json.
type Summary struct {
	Detector        Detector        `json:"detector"`
	ID              IDResult        `json:"id"`
	OOD             []OODResult     `json:"ood"`
	Averages        []Average       `json:"averages,omitempty"`
	Shifted         []ShiftedResult `json:"shifted,omitempty"`
	ShiftedAccuracy float64         `json:"shifted_accuracy,omitempty"` // mean over the shifted sets
}

// IDResult is how a detector does on ID test pictures.
type IDResult struct {
	Name     string         `json:"name"`
	Count    int            `json:"count"`
	Accuracy float64        `json:"accuracy"`
	Interval score.Interval `json:"accuracy_interval"`
	ECE      float64        `json:"ece"`
	Accepted float64        `json:"accepted"` // share that the threshold accepts
}

// OODResult is how it does against one OOD set: with the score that decides, and with all of them.
type OODResult struct {
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
	score.Metrics
	Accepted  float64                  `json:"accepted"`
	Intervals score.Intervals          `json:"intervals"`
	ByScore   map[string]score.Metrics `json:"by_score"`
	ROC       []score.ROCPoint         `json:"roc,omitempty"`
}

// Average is the mean over the sets of a group.
type Average struct {
	Group            string          `json:"group"`
	Sets             int             `json:"sets"`
	AUROC            float64         `json:"auroc"`
	AUPRIn           float64         `json:"aupr_in"`
	AUPROut          float64         `json:"aupr_out"`
	FPR95IDPositive  float64         `json:"fpr95_id_positive"`
	FPR95OODPositive float64         `json:"fpr95_ood_positive"`
	Intervals        score.Intervals `json:"intervals"`
}

// ShiftedResult is how it does on one set of shifted ID pictures.
type ShiftedResult struct {
	Name     string  `json:"name"`
	Count    int     `json:"count"`
	Accuracy float64 `json:"accuracy"`
	Accepted float64 `json:"accepted"`
}

// rocPoints bounds the points of a ROC curve.
const rocPoints = 200

// Summarise computes the figures. The intervals draw the pictures of every set anew, the ID pictures once for all sets.
func (m *Measured) Summarise(ctx context.Context) (Summary, error) {
	s := Summary{Detector: m.Detector}
	figures, err := newFigures(m)
	if err != nil {
		return s, err
	}
	if s.ID, err = m.idResult(figures); err != nil {
		return s, err
	}
	for k, set := range m.OOD {
		r := OODResult{Name: set.Name, Group: set.Group, Metrics: figures.samples[k].Metrics(), ByScore: map[string]score.Metrics{},
			Accepted: accepted(set, m.Detector)}
		id, ood := score.Widen(m.ID.Scores[m.Detector.Score]), score.Widen(set.Scores[m.Detector.Score])
		if r.ROC, err = score.ROC(id, ood, rocPoints); err != nil {
			return s, fmt.Errorf("OOD set %s: %w", set.Name, err)
		}
		for _, name := range m.Detector.Scores {
			if r.ByScore[name], err = score.Evaluate(score.Widen(m.ID.Scores[name]), score.Widen(set.Scores[name])); err != nil {
				return s, fmt.Errorf("OOD set %s, score %s: %w", set.Name, name, err)
			}
		}
		s.OOD = append(s.OOD, r)
	}
	for _, set := range m.Shifted {
		r := ShiftedResult{Name: set.Name, Count: set.Len(), Accepted: accepted(set, m.Detector)}
		r.Accuracy = share(set.right(), nil)
		s.Shifted = append(s.Shifted, r)
		s.ShiftedAccuracy += r.Accuracy / float64(len(m.Shifted))
	}
	return s, s.intervals(ctx, figures)
}

func (m *Measured) idResult(f *figures) (IDResult, error) {
	r := IDResult{Name: m.ID.Name, Count: m.ID.Len(), Accepted: accepted(m.ID, m.Detector), Accuracy: share(f.right, nil)}
	var err error
	r.ECE, err = score.ECE(m.ID.Confidence, f.right)
	return r, err
}

// groupsOf are the groups that a measurement has a mean for, All first.
func groupsOf(sets []Set) map[string][]int {
	groups := map[string][]int{}
	for k, set := range sets {
		groups[All] = append(groups[All], k)
		if set.Group != "" {
			groups[set.Group] = append(groups[set.Group], k)
		}
	}
	return groups
}

// intervals fills the averages and all intervals.
func (s *Summary) intervals(ctx context.Context, f *figures) error {
	groups := groupsOf(f.m.OOD)
	var accuracy []float64
	sets := make([][5][]float64, len(f.m.OOD))
	means := map[string]*[5][]float64{}
	for name := range groups {
		means[name] = &[5][]float64{}
	}
	for r := range Resamples {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := f.draw(uint64(r))
		accuracy = append(accuracy, share(f.right, d.id))
		values := make([][5]float64, len(sets))
		for k := range sets {
			values[k] = five(f.samples[k].Resampled(d.id, d.ood[k]))
			for j, v := range values[k] {
				sets[k][j] = append(sets[k][j], v)
			}
		}
		for name, members := range groups {
			for j := range 5 {
				var sum float64
				for _, k := range members {
					sum += values[k][j]
				}
				means[name][j] = append(means[name][j], sum/float64(len(members)))
			}
		}
	}
	s.ID.Interval = score.Middle(accuracy, Level)
	for k := range sets {
		s.OOD[k].Intervals = intervalsOf(sets[k])
	}
	for _, name := range []string{All, Near, Far} {
		if members := groups[name]; len(members) > 0 {
			s.Averages = append(s.Averages, s.average(name, members, *means[name]))
		}
	}
	return nil
}

func (s *Summary) average(name string, members []int, values [5][]float64) Average {
	var sum [5]float64
	for _, k := range members {
		for j, v := range five(s.OOD[k].Metrics) {
			sum[j] += v
		}
	}
	for j := range sum {
		sum[j] /= float64(len(members))
	}
	return Average{Group: name, Sets: len(members), AUROC: sum[0], AUPRIn: sum[1], AUPROut: sum[2], FPR95IDPositive: sum[3],
		FPR95OODPositive: sum[4], Intervals: intervalsOf(values)}
}

func five(m score.Metrics) [5]float64 {
	return [5]float64{m.AUROC, m.AUPRIn, m.AUPROut, m.FPR95IDPositive, m.FPR95OODPositive}
}

func intervalsOf(values [5][]float64) score.Intervals {
	at := func(j int) score.Interval { return score.Middle(values[j], Level) }
	return score.Intervals{AUROC: at(0), AUPRIn: at(1), AUPROut: at(2), FPR95IDPositive: at(3), FPR95OODPositive: at(4)}
}

// right says of every picture whether it gets its class.
func (s Set) right() []bool {
	out := make([]bool, len(s.Labels))
	for i, y := range s.Labels {
		out[i] = s.Predicted[i] == y
	}
	return out
}

// accepted is the share of a set that the threshold accepts.
func accepted(set Set, d Detector) float64 {
	n := 0
	for _, v := range set.Scores[d.Score] {
		if float64(v) >= d.Threshold {
			n++
		}
	}
	return float64(n) / float64(set.Len())
}

// figures are the scores that decide, ordered, for metrics of resamples.
type figures struct {
	m       *Measured
	samples []score.Sample // one per OOD set
	right   []bool         // of the ID pictures
}

func newFigures(m *Measured) (*figures, error) {
	f := &figures{m: m}
	for _, set := range m.OOD {
		sample, err := score.NewSample(score.Widen(m.ID.Scores[m.Detector.Score]), score.Widen(set.Scores[m.Detector.Score]))
		if err != nil {
			return nil, fmt.Errorf("OOD set %s: %w", set.Name, err)
		}
		f.samples = append(f.samples, sample)
	}
	if len(m.ID.Labels) != m.ID.Len() || m.ID.Len() == 0 {
		return nil, fmt.Errorf("ID set %s has %d labels of %d pictures", m.ID.Name, len(m.ID.Labels), m.ID.Len())
	}
	f.right = m.ID.right()
	return f, nil
}

// drawn says how often each picture counts; nil is once.
type drawn struct {
	id           []int32
	ood, shifted [][]int32 // by set
}

// draw resamples all pictures. Those of a set depend on its name and size alone, so that two detectors that were measured
// on the same pictures get the same draws.
func (f *figures) draw(r uint64) drawn {
	key := philox.Key{Seed: seed, Purpose: "score.bootstrap", Index: r}
	d := drawn{id: score.Draws(f.m.ID.Len(), key)}
	for _, set := range f.m.OOD {
		key := key
		key.Purpose, key.Step = "score.bootstrap."+set.Name, 1
		d.ood = append(d.ood, score.Draws(set.Len(), key))
	}
	for _, set := range f.m.Shifted {
		key := key
		key.Purpose, key.Step = "score.bootstrap."+set.Name, 2
		d.shifted = append(d.shifted, score.Draws(set.Len(), key))
	}
	return d
}

// share is the share of right answers, each counted as often as it was drawn.
func share(right []bool, counts []int32) float64 {
	var n, all int
	for i, r := range right {
		c := 1
		if counts != nil {
			c = int(counts[i])
		}
		all += c
		if r {
			n += c
		}
	}
	return float64(n) / float64(all)
}
