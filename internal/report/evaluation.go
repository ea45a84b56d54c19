package report

import (
	_ "embed"
	"html/template"
	"io"
	"time"
)

// EvaluationPage shows what was measured of a detector, beside an earlier one where there is a baseline. Every part may be
// empty; shares are 0 to 1, and NaN is "no data".
type EvaluationPage struct {
	Title, Subtitle, Version string
	Generated                time.Time
	// Detectors are drawn in the figures: the baseline first where there is one, then the detector. Their Name, IDScores,
	// Threshold and OOD (with scores and ROC curves) are used.
	Detectors []Detector
	// Score is the one that decides.
	Score string
	// Figures head the page.
	Figures []Figure
	// Conditions are what a CI job held the detector against.
	Conditions []ConditionRow
	// Results are the OOD sets and the means over them.
	Results []ResultRow
	// Scores compare all scores of the detector, ScoreSets name the columns beside the mean.
	Scores    []ScoreRow
	ScoreSets []string
	// Shifted are accuracies on shifted ID pictures.
	Shifted []ShiftedRow
	// Mistakes are the worst ones.
	Mistakes []MistakeGroup
	// Settings say what was measured and how.
	Settings []KV
}

// Figure is one headline number with its interval, and the baseline's.
type Figure struct {
	Name, Detail     string
	Value, Low, High float64
	Baseline         float64 // NaN without
	Higher           bool    // whether a larger value is better
	Change           string  // "better", "worse", "unclear" or ""
}

// ConditionRow is a condition and what came of it.
type ConditionRow struct {
	Text, Why string
	Failed    bool
}

// ResultRow is one OOD set, or a mean over sets.
type ResultRow struct {
	Name, Detail     string
	Mean             bool
	FPR95, AUROC     Figure
	AUPRIn, AUPROut  float64
	FPR95OODPositive float64
	Accepted         float64 // share that the threshold accepts; not shown for a mean
	BaselineMissing  bool    // the baseline was not measured on it
}

// ScoreRow is one score: its mean FPR95 and AUROC, and those of every set.
type ScoreRow struct {
	Name         string
	Decides      bool
	FPR95, AUROC float64
	SetFPR95     []float64
}

// ShiftedRow is the accuracy on a shifted set.
type ShiftedRow struct {
	Name               string
	Count              int
	Accuracy, Accepted float64
}

// MistakeGroup are the worst mistakes of one kind on one set.
type MistakeGroup struct {
	Title, Note string
	Pictures    []MistakePicture
}

// MistakePicture is a picture that the detector gets wrong.
type MistakePicture struct {
	PNG          []byte
	Caption, Tip string
}

//go:embed evaluation.html.tmpl
var evaluationTemplate string

//go:embed evaluation.css
var evaluationStyle string

// evaluationView is what the template shows.
type evaluationView struct {
	EvaluationPage
	Style    template.CSS
	When     string
	Sets     []setView
	Groups   []mistakeView
	Failed   int
	HasBase  bool
	Baseline string
}

type mistakeView struct {
	Title, Note string
	Pictures    []captioned
}

type captioned struct {
	Picture shown
	Caption string
}

// WriteEvaluation writes the page as one HTML document in UTF-8. The same page gives the same bytes.
func WriteEvaluation(w io.Writer, p EvaluationPage) error {
	funcs := template.FuncMap{"percent": percent, "count": count, "interval": rangeText, "change": changeText}
	return write(w, evaluationTemplate, funcs, newEvaluationView(p))
}

func newEvaluationView(p EvaluationPage) evaluationView {
	p = cleanEvaluation(p)
	v := evaluationView{EvaluationPage: p, Style: template.CSS(pageStyle + evaluationStyle), HasBase: len(p.Detectors) > 1}
	if v.HasBase {
		v.Baseline = p.Detectors[0].Name
	}
	if !p.Generated.IsZero() {
		v.When = p.Generated.Format("2 January 2006, 15:04 MST")
	}
	for _, c := range p.Conditions {
		if c.Failed {
			v.Failed++
		}
	}
	for _, s := range oodSets(p.Detectors) {
		v.Sets = append(v.Sets, newSetView(s, p.Detectors))
	}
	for _, g := range p.Mistakes {
		m := mistakeView{Title: g.Title, Note: g.Note}
		for _, picture := range g.Pictures {
			m.Pictures = append(m.Pictures, captioned{show(picture.PNG, picture.Caption, picture.Tip), picture.Caption})
		}
		v.Groups = append(v.Groups, m)
	}
	return v
}

// rangeText is an interval as "31.2 to 34.9", or nothing.
func rangeText(f Figure) string {
	if !finite(f.Low) || !finite(f.High) || f.Low == 0 && f.High == 0 {
		return ""
	}
	return percent(f.Low) + " to " + percent(f.High)
}

// changeText is the difference from the baseline in points, or nothing.
func changeText(f Figure) string {
	if !finite(f.Baseline) {
		return ""
	}
	return points(f.Value - f.Baseline)
}

// cleanEvaluation makes every text visible.
func cleanEvaluation(p EvaluationPage) EvaluationPage {
	page := clean(Page{Title: p.Title, Subtitle: p.Subtitle, Version: p.Version, Detectors: p.Detectors, Provenance: p.Settings})
	p.Title, p.Subtitle, p.Version, p.Detectors, p.Settings = page.Title, page.Subtitle, page.Version, page.Detectors, page.Provenance
	each(p.Conditions, func(c *ConditionRow) { c.Text, c.Why = visible(c.Text), visible(c.Why) })
	each(p.Results, func(r *ResultRow) { r.Name, r.Detail = visible(r.Name), visible(r.Detail) })
	each(p.Shifted, func(r *ShiftedRow) { r.Name = visible(r.Name) })
	each(p.Mistakes, func(g *MistakeGroup) {
		g.Title, g.Note = visible(g.Title), visible(g.Note)
		each(g.Pictures, func(m *MistakePicture) { m.Caption, m.Tip = visible(m.Caption), visible(m.Tip) })
	})
	return p
}

func each[T any](list []T, do func(*T)) {
	for i := range list {
		do(&list[i])
	}
}
