package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// newest is the name of a detector with its newest version.
func (s *Session) newest(ctx context.Context, name string) (string, error) {
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return "", err
	}
	got, err := trainer.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: name})
	if err != nil || got.GetDetector().GetVersion() == 0 {
		return name, err
	}
	return fmt.Sprintf("%s@%d", got.GetDetector().GetName(), got.GetDetector().GetVersion()), nil
}

// DetectorVersionsCmd lists versions.
type DetectorVersionsCmd struct {
	Name string `arg:"" name:"detector" field:"name" help:"The detector."`
}

// Run lists the versions.
func (c *DetectorVersionsCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	answer, err := trainer.ListDetectorVersions(ctx, &trainerv1.ListDetectorVersionsRequest{Name: name})
	if err != nil {
		return err
	}
	var t table
	t.row("VERSION", "ALIASES", "OUTLIERS", "SCORE", "ID ACCURACY", "FPR95", "AUROC", "MADE")
	for _, d := range answer.GetDetectors() {
		if s.json() {
			if err := s.object(d); err != nil {
				return err
			}
			continue
		}
		var aliases []string
		for _, alias := range slices.Sorted(maps.Keys(d.GetAliases())) {
			if d.GetAliases()[alias] == max(1, d.GetVersion()) {
				aliases = append(aliases, alias)
			}
		}
		fpr, auroc := "-", "-"
		for _, a := range d.GetEvaluation().GetAverages() {
			if a.GetGroup() == "all" {
				fpr, auroc = percent(a.GetFpr95()), percent(a.GetAuroc())
			}
		}
		t.row(max(1, d.GetVersion()), or(strings.Join(aliases, ", "), "-"), or(d.GetSet(), "-"), d.GetScore(), percent(d.GetEvaluation().GetIdAccuracy()), fpr, auroc, when(d.GetCreateTime()))
	}
	if !s.json() {
		t.print(s.Out)
	}
	return nil
}

// DetectorPromoteCmd points an alias to a version.
type DetectorPromoteCmd struct {
	Name   string `arg:"" name:"detector" field:"name" help:"The version: detector@7, another alias, or the detector for its newest one."`
	Alias  string `default:"live" field:"alias" placeholder:"ALIAS" help:"The alias (default live)."`
	Remove bool   `field:"remove" help:"Take the alias away."`
}

// Help teaches the command.
func (DetectorPromoteCmd) Help() string {
	return `Calls and streams that name detector@live use the new version with their next message; nothing is restarted. The version
is loaded and tried before: one that does not work is refused, and the alias stays where it was.

    dreamood detector promote regular@7
    dreamood detector promote regular@live --alias stable
    dreamood score regular@live incoming/`
}

// Run points the alias.
func (c *DetectorPromoteCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	answer, err := trainer.PromoteDetector(ctx, &trainerv1.PromoteDetectorRequest{Name: name, Alias: c.Alias, Remove: c.Remove})
	if err != nil {
		return err
	}
	d := answer.GetDetector()
	switch {
	case s.json():
		return s.object(d)
	case c.Remove:
		s.say("%s has no alias %s any more", d.GetName(), c.Alias)
	default:
		s.say("%s@%s is version %d", d.GetName(), c.Alias, max(1, d.GetVersion()))
	}
	return nil
}
