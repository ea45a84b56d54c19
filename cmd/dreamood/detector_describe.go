package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/score/method"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// describeDetector prints a detector and the tables of its measurements.
func (s *Session) describeDetector(d *trainerv1.Detector) {
	evaluation := d.GetEvaluation()
	var t table
	t.row("detector", fmt.Sprintf("%s@%d", d.GetName(), max(1, d.GetVersion())))
	for _, alias := range slices.Sorted(maps.Keys(d.GetAliases())) {
		t.row("alias", fmt.Sprintf("@%s is version %d", alias, d.GetAliases()[alias]))
	}
	t.row("classes", strings.Join(d.GetClasses(), ", "))
	t.row("method", or(d.GetMethod(), "-"))
	if share := d.GetTraining().GetCodecShare(); share > 0 {
		t.row("codec", fmt.Sprintf("%s of the ID training pictures passed through the VAE of %s", percent(share), d.GetTraining().GetCodecModel()))
	}
	t.row("waiting", fmt.Sprintf("%s of the training's time, for pictures", percent(d.GetLoaderShare())))
	t.row("outliers", or(d.GetSet(), "none (plain classifier)"))
	t.row("threshold", fmt.Sprintf("%.4g of %s; below is out of distribution", d.GetThreshold(), or(d.GetScore(), method.Energy)))
	t.row("made", when(d.GetCreateTime()))
	if d.GetOwner() != "" {
		t.row("owner", d.GetOwner())
	}
	accuracy := percent(evaluation.GetIdAccuracy())
	if i := evaluation.GetIdAccuracyInterval(); i != nil {
		accuracy += fmt.Sprintf(" (%s to %s)", percent(i.GetLow()), percent(i.GetHigh()))
	}
	t.row("ID accuracy", fmt.Sprintf("%s of %d pictures", accuracy, evaluation.GetIdCount()))
	if len(d.GetScores()) > 0 {
		t.row("calibration", fmt.Sprintf("expected error %s", percent(evaluation.GetEce())))
	}
	if w := d.GetDrift(); w != nil {
		t.row("drift", fmt.Sprintf("PSI %.3f, KS %.3f (p %.2g), %s refused where %s were expected, over the last %d pictures of that server",
			w.GetPsi(), w.GetKs(), w.GetPValue(), percent(w.GetRefused()), percent(w.GetExpected()), w.GetWindow()))
	}
	t.print(s.Out)
	for _, w := range d.GetWarnings() {
		s.complain("warning: %s", w)
	}
	s.describeResults(evaluation)
}

// describeResults prints the tables of an evaluation.
func (s *Session) describeResults(e *trainerv1.Evaluation) {
	if len(e.GetOod()) > 0 {
		s.say("")
		var results table
		results.row("OOD SET", "PICTURES", "FPR95", "95 % INTERVAL", "AUROC", "AUPR IN", "AUPR OUT", "FPR95, OOD POSITIVE")
		for _, r := range e.GetOod() {
			results.row(labelled(r.GetName(), r.GetGroup()), r.GetCount(), percent(r.GetFpr95()), between(r.GetFpr95Interval()), percent(r.GetAuroc()), percent(r.GetAuprIn()), percent(r.GetAuprOut()), percent(r.GetFpr95OodPositive()))
		}
		for _, a := range e.GetAverages() {
			if a.GetSets() > 1 {
				results.row("mean of "+a.GetGroup(), fmt.Sprintf("%d sets", a.GetSets()), percent(a.GetFpr95()), between(a.GetFpr95Interval()), percent(a.GetAuroc()), percent(a.GetAuprIn()), percent(a.GetAuprOut()), percent(a.GetFpr95OodPositive()))
			}
		}
		results.print(s.Out)
	}
	if len(e.GetShifted()) > 0 {
		s.say("")
		var shifted table
		shifted.row("SHIFTED SET", "PICTURES", "ACCURACY", "ACCEPTED")
		for _, r := range e.GetShifted() {
			shifted.row(r.GetName(), r.GetCount(), percent(r.GetAccuracy()), percent(r.GetAccepted()))
		}
		if len(e.GetShifted()) > 1 {
			shifted.row("mean", "", percent(e.GetShiftedAccuracy()), "")
		}
		shifted.print(s.Out)
	}
	if len(e.GetOod()) > 0 {
		s.hint("FPR95: share of OOD accepted when 95 %% of ID is; lower is better. AUROC, AUPR: higher is better")
	}
}

func labelled(name, group string) string {
	if group == "" {
		return name
	}
	return name + " (" + group + ")"
}

// between prints an interval, or a dash.
func between(i *trainerv1.Interval) string {
	if i == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f to %.1f", 100*i.GetLow(), 100*i.GetHigh())
}
