package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/report"
	"github.com/dreamood/dreamood/internal/score"
)

// writeReport writes the report of a measurement.
func (s *Session) writeReport(ctx context.Context, file string, m *evaluation.Measured, sum evaluation.Summary, baseline *evaluation.Measured, verdicts []evaluation.Verdict) error {
	page := report.EvaluationPage{
		Title: "Detector " + sum.Detector.Name, Generated: time.Now(), Version: version, Score: sum.Detector.Score,
		Subtitle: fmt.Sprintf("%d ID and %d OOD test pictures of %d sets", sum.ID.Count, picturesIn(m.OOD), len(m.OOD)),
	}
	before := map[string]change{}
	if baseline != nil {
		old, err := baseline.Summarise(ctx)
		if err != nil {
			return fmt.Errorf("baseline: %w", err)
		}
		if before, err = changes(ctx, m, baseline); err != nil {
			return err
		}
		page.Subtitle += ", compared with " + old.Detector.Name
		page.Detectors = append(page.Detectors, drawn("baseline "+old.Detector.Name, baseline, old, m.OOD))
	}
	page.Detectors = append(page.Detectors, drawn(sum.Detector.Name, m, sum, m.OOD))
	for _, v := range verdicts {
		page.Conditions = append(page.Conditions, report.ConditionRow{Text: v.Condition, Why: v.Explain(), Failed: v.Fails})
	}
	page.Figures = append(page.Figures, figure("ID accuracy", fmt.Sprintf("%d pictures of %s", sum.ID.Count, sum.ID.Name), sum.ID.Accuracy, sum.ID.Interval, true, before["accuracy"]))
	for _, a := range sum.Averages {
		over := fmt.Sprintf("mean of %s OOD sets (%d)", a.Group, a.Sets)
		page.Figures = append(page.Figures, figure("FPR95, "+a.Group, over, a.FPR95IDPositive, a.Intervals.FPR95IDPositive, false, before["fpr95["+a.Group+"]"]))
		if a.Group == evaluation.All {
			page.Figures = append(page.Figures, figure("AUROC, all", over, a.AUROC, a.Intervals.AUROC, true, before["auroc[all]"]))
		}
	}
	results(&page, sum, before)
	for _, r := range sum.Shifted {
		page.Shifted = append(page.Shifted, report.ShiftedRow{Name: r.Name, Count: r.Count, Accuracy: r.Accuracy, Accepted: r.Accepted})
	}
	page.Mistakes = mistakesOf(m)
	d := sum.Detector
	page.Settings = []report.KV{
		{Key: "detector", Value: d.Name}, {Key: "method", Value: or(d.Method, "unknown")}, {Key: "outliers", Value: or(d.Set, "none")},
		{Key: "classes", Value: strings.Join(d.Classes, ", ")}, {Key: "score that decides", Value: d.Score},
		{Key: "threshold", Value: fmt.Sprintf("%.6g", d.Threshold)}, {Key: "ID test pictures accepted", Value: percent(sum.ID.Accepted)},
		{Key: "calibration error of the class", Value: percent(sum.ID.ECE)},
	}
	return replaceFile(file, func(w io.Writer) error { return report.WriteEvaluation(w, page) })
}

func picturesIn(sets []evaluation.Set) int {
	n := 0
	for _, s := range sets {
		n += s.Len()
	}
	return n
}

// change is a baseline's value and what the difference from it means.
type change struct {
	value float64
	word  string
	known bool
}

// changes compares with the baseline, metric by metric: better and worse are differences whose 90 % interval leaves zero
// out. Sets that the baseline was not measured on are left out.
func changes(ctx context.Context, m, baseline *evaluation.Measured) (map[string]change, error) {
	names := []string{evaluation.All, evaluation.Near, evaluation.Far}
	for _, set := range m.OOD {
		names = append(names, set.Name)
	}
	conditions := []evaluation.Condition{{Text: "accuracy", Metric: "accuracy", Op: "<", Relative: true}}
	for _, name := range names {
		conditions = append(conditions, evaluation.Condition{Text: "fpr95[" + name + "]", Metric: "fpr95", Set: name, Op: ">", Relative: true},
			evaluation.Condition{Text: "auroc[" + name + "]", Metric: "auroc", Set: name, Op: "<", Relative: true})
	}
	both := slices.DeleteFunc(conditions, func(c evaluation.Condition) bool { return evaluation.Comparable(c, m, baseline) != nil })
	verdicts, err := evaluation.Check(ctx, both, m, baseline)
	if err != nil {
		return nil, err
	}
	out := map[string]change{}
	for i, v := range verdicts {
		c := change{value: v.Baseline, word: "unclear", known: true}
		above, below := v.Difference.Low > 0, v.Difference.High < 0
		if higher := both[i].Metric != "fpr95"; above || below {
			c.word = "worse"
			if above == higher {
				c.word = "better"
			}
		}
		out[v.Condition] = c
	}
	return out, nil
}

func figure(name, detail string, value float64, i score.Interval, higher bool, before change) report.Figure {
	f := report.Figure{Name: name, Detail: detail, Value: value, Low: i.Low, High: i.High, Higher: higher, Baseline: math.NaN()}
	if before.known {
		f.Baseline, f.Change = before.value, before.word
	}
	return f
}

// results fills the tables of OOD sets and of scores.
func results(page *report.EvaluationPage, sum evaluation.Summary, before map[string]change) {
	for _, r := range sum.OOD {
		row := report.ResultRow{Name: labelled(r.Name, r.Group), Detail: fmt.Sprintf("%d pictures", r.Metrics.OOD), AUPRIn: r.AUPRIn, AUPROut: r.AUPROut,
			FPR95OODPositive: r.FPR95OODPositive, Accepted: r.Accepted, BaselineMissing: !before["fpr95["+r.Name+"]"].known,
			FPR95: figure("", "", r.FPR95IDPositive, r.Intervals.FPR95IDPositive, false, before["fpr95["+r.Name+"]"]),
			AUROC: figure("", "", r.AUROC, r.Intervals.AUROC, true, before["auroc["+r.Name+"]"])}
		page.Results = append(page.Results, row)
		page.ScoreSets = append(page.ScoreSets, r.Name)
	}
	for _, a := range sum.Averages {
		if a.Sets < 2 {
			continue
		}
		page.Results = append(page.Results, report.ResultRow{Name: "mean of " + a.Group, Detail: fmt.Sprintf("%d sets", a.Sets), Mean: true,
			AUPRIn: a.AUPRIn, AUPROut: a.AUPROut, FPR95OODPositive: a.FPR95OODPositive, BaselineMissing: !before["fpr95["+a.Group+"]"].known,
			FPR95: figure("", "", a.FPR95IDPositive, a.Intervals.FPR95IDPositive, false, before["fpr95["+a.Group+"]"]),
			AUROC: figure("", "", a.AUROC, a.Intervals.AUROC, true, before["auroc["+a.Group+"]"])})
	}
	if len(sum.OOD) == 0 {
		return
	}
	for _, name := range sum.Detector.Scores {
		row := report.ScoreRow{Name: name, Decides: name == sum.Detector.Score}
		for _, r := range sum.OOD {
			row.FPR95 += r.ByScore[name].FPR95IDPositive / float64(len(sum.OOD))
			row.AUROC += r.ByScore[name].AUROC / float64(len(sum.OOD))
			row.SetFPR95 = append(row.SetFPR95, r.ByScore[name].FPR95IDPositive)
		}
		page.Scores = append(page.Scores, row)
	}
}

// drawn is a measurement on some sets as the figures take it.
func drawn(name string, m *evaluation.Measured, sum evaluation.Summary, sets []evaluation.Set) report.Detector {
	d := report.Detector{Name: name + ", " + sum.Detector.Score, Accuracy: sum.ID.Accuracy, IDCount: sum.ID.Count, IDScores: m.ID.Scores[sum.Detector.Score], Threshold: sum.Detector.Threshold}
	for k, r := range sum.OOD {
		if !slices.ContainsFunc(sets, func(s evaluation.Set) bool { return s.Name == r.Name }) {
			continue
		}
		o := report.OODResult{Name: r.Name, Count: r.Metrics.OOD, AUROC: r.AUROC, AUPRIn: r.AUPRIn, AUPROut: r.AUPROut, FPR95: r.FPR95IDPositive,
			FPR95OODPositive: r.FPR95OODPositive, Scores: m.OOD[k].Scores[sum.Detector.Score]}
		for _, p := range r.ROC {
			o.ROCFPR, o.ROCTPR = append(o.ROCFPR, float32(p.FPR)), append(o.ROCTPR, float32(p.TPR))
		}
		d.OOD = append(d.OOD, o)
	}
	return d
}

// mistakesOf groups the worst mistakes of every set.
func mistakesOf(m *evaluation.Measured) []report.MistakeGroup {
	notes := []struct{ kind, title, note string }{
		{"accepted", "%s: OOD pictures that are accepted", "The highest scores first. Below each: the class that it is taken for, and the score."},
		{"refused", "%s: ID pictures that are refused", "The lowest scores first. Below each: its class, what it is taken for, and the score."},
		{"misclassified", "%s: ID pictures of another class", "Accepted, and given the wrong class with the most confidence."},
	}
	var out []report.MistakeGroup
	for _, set := range append(append([]evaluation.Set{}, m.OOD...), append([]evaluation.Set{m.ID}, m.Shifted...)...) {
		for _, n := range notes {
			g := report.MistakeGroup{Title: fmt.Sprintf(n.title, set.Name), Note: n.note}
			for _, x := range set.Mistakes {
				if x.Kind != n.kind {
					continue
				}
				caption := fmt.Sprintf("%s, %.3g", x.Predicted, x.Score)
				if x.Class != "" {
					caption = fmt.Sprintf("%s → %s, %.3g", x.Class, x.Predicted, x.Score)
				}
				g.Pictures = append(g.Pictures, report.MistakePicture{PNG: x.PNG, Caption: caption, Tip: x.File})
			}
			if len(g.Pictures) > 0 {
				out = append(out, g)
			}
		}
	}
	return out
}
