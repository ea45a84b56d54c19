package report

import (
	"math"
	"slices"
)

// estimate is a measured share with its standard error, NaN when that is unknown.
type estimate struct{ Value, StdErr float64 }

// cell is one number of a table as it reads.
type cell struct {
	// Text is the value, Half half its 95 % interval ("±2.1" or nothing).
	Text, Half string
	// Verdict is "better", "worse", "unclear" or "same" for a difference and empty for a value.
	Verdict string
}

// row is a detector's values, or the difference of two detectors.
type row struct {
	Name       string
	Key        string
	Difference bool
	Cells      []cell
}

// block is the rows of all detectors for one OOD set, or for their mean.
type block struct {
	Name  string
	Count int
	Apart string
	Rows  []row
}

// oodSet is one OOD set with the results of all detectors; a detector that was not measured on it has NaNs.
type oodSet struct {
	name    string
	apart   string
	count   int
	results []OODResult
	missing bool
}

// pictures is the number of OOD pictures.
func (r OODResult) pictures() int { return max(r.Count, len(r.Scores)) }

// pictures is the number of ID test pictures.
func (d Detector) pictures() int { return max(d.IDCount, len(d.IDScores)) }

// oodSets collects the OOD sets of all detectors in order of appearance.
func oodSets(detectors []Detector) []oodSet {
	var sets []oodSet
	for i, d := range detectors {
		for _, r := range d.OOD {
			at := slices.IndexFunc(sets, func(s oodSet) bool { return s.name == r.Name })
			if at < 0 {
				at = len(sets)
				sets = append(sets, oodSet{name: r.Name, results: absent(len(detectors), r.Name)})
			}
			s := &sets[at]
			s.results[i] = r
			s.count = max(s.count, r.pictures())
			if s.apart == "" {
				s.apart = r.Apart
			}
		}
	}
	for i := range sets {
		for j := range detectors {
			sets[i].missing = sets[i].missing ||
				!slices.ContainsFunc(detectors[j].OOD, func(r OODResult) bool { return r.Name == sets[i].name })
		}
	}
	return sets
}

// absent are n results that hold nothing.
func absent(n int, name string) []OODResult {
	nan := math.NaN()
	return slices.Repeat([]OODResult{{
		Name: name, AUROC: nan, AUPRIn: nan, AUPROut: nan, FPR95: nan, FPR95OODPositive: nan,
	}}, n)
}

// counted are the sets that the mean is taken over: those measured by every detector and not set apart.
func counted(sets []oodSet) []oodSet {
	return slices.DeleteFunc(slices.Clone(sets), func(s oodSet) bool { return s.missing || s.apart != "" })
}

// measured is metric m of detector i on a set.
func (s oodSet) measured(m metric, detectors []Detector, i int) estimate {
	r := s.results[i]
	return estimate{m.value(r), m.stderr(r, detectors[i].pictures(), r.pictures())}
}

// meanOf averages metric m of detector i over sets. The sets share ID pictures, which the error leaves out.
func meanOf(sets []oodSet, m metric, detectors []Detector, i int) estimate {
	var sum, square float64
	for _, s := range sets {
		e := s.measured(m, detectors, i)
		sum += e.Value
		square += e.StdErr * e.StdErr
	}
	n := float64(len(sets)) // 0 gives NaN: no data
	return estimate{sum / n, math.Sqrt(square) / n}
}

// accuracyOf is the ID accuracy of a detector.
func accuracyOf(d Detector) estimate {
	return estimate{d.Accuracy, shareError(d.Accuracy, d.pictures())}
}

// compare judges b against a. A difference within its own 95 % interval is unclear; the interval takes the two as
// independent, which errs to the careful side where both scored the same pictures.
func compare(a, b estimate, higher bool) cell {
	d := b.Value - a.Value
	half := z95 * math.Hypot(a.StdErr, b.StdErr)
	c := cell{Text: points(d)}
	switch {
	case !finite(d):
	case points(d) == "0.0":
		c.Verdict = "same"
	case math.Abs(d) <= half:
		c.Verdict = "unclear"
	case (d > 0) == higher:
		c.Verdict = "better"
	default:
		c.Verdict = "worse"
	}
	return c
}

// comparisonRows are one row per detector and, below each after the first, its difference from the first. of gives
// the estimate of detector i in column j, higher[j] says whether a larger value is better there.
func comparisonRows(detectors []Detector, higher []bool, of func(i, j int) estimate) []row {
	var rows []row
	for i, d := range detectors {
		values := row{Name: d.Name, Key: detectorKey(i)}
		change := row{Name: "difference", Difference: true}
		for j := range higher {
			e := of(i, j)
			values.Cells = append(values.Cells, cell{Text: percent(e.Value), Half: halfWidth(z95 * e.StdErr)})
			if i > 0 {
				change.Cells = append(change.Cells, compare(of(0, j), e, higher[j]))
			}
		}
		rows = append(rows, values)
		if i > 0 {
			if len(detectors) > 2 {
				change.Name = "difference from " + detectors[0].Name
			}
			rows = append(rows, change)
		}
	}
	return rows
}
