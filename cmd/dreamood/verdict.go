package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// maxArchive bounds the measurements that are downloaded, in bytes.
const maxArchive = 1 << 30

// VerdictFlags decide whether a detector is good enough, and write what a CI job shows.
type VerdictFlags struct {
	FailIf   []string `name:"fail-if" group:"verdict" sep:"none" placeholder:"CONDITION" help:"Exit with 5 when it holds: fpr95>0.35, fpr95[near]>40%, accuracy<90%, auroc<baseline-0.01. Repeatable."`
	Baseline string   `group:"verdict" placeholder:"DETECTOR" help:"Detector to compare with: detector@7, detector@live, or a folder that dreamood score wrote."`
	JUnit    string   `name:"junit" group:"verdict" type:"path" placeholder:"FILE" help:"Write the conditions as JUnit XML, as CI systems show them."`
	Report   string   `group:"verdict" type:"path" placeholder:"FILE" help:"Write a report with curves, histograms and the worst mistakes as one HTML file."`
}

func (f VerdictFlags) asks() bool { return len(f.FailIf) > 0 || f.JUnit != "" || f.Report != "" }

// check reads the conditions.
func (f VerdictFlags) check() error {
	conditions, err := evaluation.ParseConditions(f.FailIf)
	if err != nil {
		return usage("--fail-if: %w", err)
	}
	for _, c := range conditions {
		if c.Relative && f.Baseline == "" {
			return usage("--fail-if %q compares with a baseline; name it with --baseline", c.Text)
		}
	}
	return nil
}

// judge is what a detector is held against.
type judge struct {
	flags      VerdictFlags
	conditions []evaluation.Condition
	baseline   *evaluation.Measured // nil without
}

// open reads the baseline, before any work, so that a name that is wrong costs nothing.
func (f VerdictFlags) open(ctx context.Context, s *Session) (*judge, error) {
	g := &judge{flags: f}
	var err error
	if g.conditions, err = evaluation.ParseConditions(f.FailIf); err != nil || f.Baseline == "" {
		return g, err
	}
	if info, statErr := os.Stat(f.Baseline); statErr == nil && info.IsDir() {
		g.baseline, err = evaluation.Read(os.DirFS(f.Baseline))
	} else {
		var name string
		if name, err = resource(ood.Detectors, f.Baseline); err == nil {
			g.baseline, err = s.measurement(ctx, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--baseline %s: %w", f.Baseline, err)
	}
	return g, nil
}

// measurement downloads what a detector's evaluation is computed from.
func (s *Session) measurement(ctx context.Context, name string) (*evaluation.Measured, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return nil, err
	}
	stream, err := trainer.DownloadMeasurements(ctx, &trainerv1.DownloadMeasurementsRequest{Name: name})
	if err != nil {
		return nil, err
	}
	var raw []byte
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if raw = append(raw, piece.GetData()...); len(raw) > maxArchive {
			return nil, fmt.Errorf("the measurements of %s are larger than %s", name, size(maxArchive))
		}
	}
	files, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("the measurements of %s: %w", name, err)
	}
	m, err := evaluation.Read(files)
	if err == nil {
		m.Detector.Name = name // with the version, which it got after it was measured
	}
	return m, err
}

// decide holds a detector of the server against the conditions.
func (g *judge) decide(ctx context.Context, s *Session, name string) error {
	if !g.flags.asks() {
		return nil
	}
	m, err := s.measurement(ctx, name)
	if err != nil {
		return err
	}
	summary, err := m.Summarise(ctx)
	if err != nil {
		return err
	}
	return g.hold(ctx, s, m, summary)
}

// hold writes what is asked for, prints every verdict, and makes an exit code of them.
func (g *judge) hold(ctx context.Context, s *Session, m *evaluation.Measured, summary evaluation.Summary) error {
	verdicts, err := evaluation.Check(ctx, g.conditions, m, g.baseline)
	if err != nil {
		return usage("--fail-if: %w", err)
	}
	if g.flags.JUnit != "" {
		if err := replaceFile(g.flags.JUnit, func(w io.Writer) error { return evaluation.WriteJUnit(w, summary, verdicts) }); err != nil {
			return err
		}
	}
	if g.flags.Report != "" {
		if err := s.writeReport(ctx, g.flags.Report, m, summary, g.baseline, verdicts); err != nil {
			return err
		}
	}
	failed := 0
	for _, v := range verdicts {
		word := "passed"
		if v.Fails {
			word = "FAILED"
			failed++
		}
		if s.json() {
			if err := s.value(v); err != nil {
				return err
			}
			continue
		}
		s.say("%s: %s: %s", word, v.Condition, v.Explain())
	}
	if failed > 0 {
		return &exitError{exitRefused, fmt.Errorf("%s is refused: %d of %d conditions hold", m.Detector.Name, failed, len(verdicts))}
	}
	return nil
}

// DetectorCheckCmd holds a detector against conditions.
type DetectorCheckCmd struct {
	Name string `arg:"" name:"detector" field:"name" help:"The detector: detector, detector@7 or detector@live."`

	VerdictFlags `embed:""`
}

// Help teaches the command.
func (DetectorCheckCmd) Help() string {
	return `Compares what was measured already; nothing is computed on pictures. The exit code is 5 when a condition holds.

    dreamood detector check regular --fail-if 'fpr95>0.35' --fail-if 'accuracy<baseline-0.5%' --baseline regular@live
    dreamood detector check regular@7 --baseline regular@6 --report out/report.html`
}

// Validate checks what no server can.
func (c *DetectorCheckCmd) Validate() error {
	if !c.VerdictFlags.asks() {
		return usage("nothing to do: give --fail-if, --junit or --report")
	}
	return c.VerdictFlags.check()
}

// Run holds the detector against the conditions.
func (c *DetectorCheckCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Detectors, c.Name)
	if err != nil {
		return err
	}
	judge, err := c.VerdictFlags.open(ctx, s)
	if err != nil {
		return err
	}
	return judge.decide(ctx, s, name)
}
