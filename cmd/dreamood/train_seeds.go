package main

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// runSeeds trains one detector per seed, and prints the mean and the standard deviation of what they measure.
func (c *TrainCmd) runSeeds(ctx context.Context, s *Session, id string) error {
	options, err := c.RunFlags.message()
	if err != nil {
		return err
	}
	var runs, detectors []string
	for _, seed := range c.Seeds {
		name := fmt.Sprintf("%s-s%d", id, seed)
		key, err := requestID("")
		if err != nil {
			return err
		}
		var run *runv1.Run
		if run, err = c.ask(ctx, s, name, seed, key, options); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		runs, detectors = append(runs, run.GetName()), append(detectors, ood.Detectors.Name(name))
	}
	if err := s.watchAll(ctx, runs, nil); err != nil {
		return err
	}
	var list []evaluation.Summary
	for _, name := range detectors {
		m, err := s.measurement(ctx, name)
		if err != nil {
			return err
		}
		summary, err := m.Summarise(ctx)
		if err != nil {
			return err
		}
		list = append(list, summary)
	}
	return s.spread(list)
}

// spread prints figures over several trainings.
func (s *Session) spread(list []evaluation.Summary) error {
	rows, err := evaluation.Over(list)
	if err != nil {
		return err
	}
	if s.json() {
		return s.value(struct {
			Detectors int              `json:"detectors"`
			Rows      []evaluation.Row `json:"rows"`
		}{len(list), rows})
	}
	s.say("")
	cell := func(r evaluation.Row, metric string) string {
		v, ok := r.Values[metric]
		if !ok {
			return "-"
		}
		return fmt.Sprintf("%.1f ± %.1f", 100*v.Mean, 100*v.SD)
	}
	var t table
	t.row("MEAN ± SD, %", "ACCURACY", "SHIFTED", "ECE", "FPR95", "AUROC", "AUPR IN", "AUPR OUT", "FPR95, OOD POSITIVE")
	for _, r := range rows {
		t.row(r.Name, cell(r, "accuracy"), cell(r, "shifted_accuracy"), cell(r, "ece"), cell(r, "fpr95"), cell(r, "auroc"), cell(r, "aupr_in"), cell(r, "aupr_out"), cell(r, "fpr95_ood_positive"))
	}
	t.print(s.Out)
	s.hint("over %d trainings; the standard deviation is that of the sample", len(list))
	return nil
}
