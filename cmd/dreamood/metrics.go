package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dreamood/dreamood/internal/evaluation"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/score"
)

// MetricsCmd computes metrics of scores in files.
type MetricsCmd struct {
	Folders []string `arg:"" optional:"" name:"folder" help:"Folders that dreamood score wrote, of several trainings: mean and standard deviation over them."`
	ID      string   `name:"id" type:"path" placeholder:"FILE" help:"Scores of ID pictures: .npy of float32, one number per picture."`
	OOD     []string `name:"ood" sep:"none" placeholder:"[NAME=]FILE" help:"Scores of OOD pictures. Repeatable."`
	Higher  string   `default:"id" enum:"id,ood" help:"Whose scores are higher: id, as here, or ood, as in pytorch-ood (default id)."`
}

// Help teaches the command.
func (MetricsCmd) Help() string {
	return `Treats equal scores as scikit-learn does, and gives FPR95 in both conventions by name: ID positive is the share of OOD
accepted when 95 % of ID is (Dream-OOD), OOD positive the share of ID refused when 95 % of OOD is (OpenOOD, pytorch-ood). The
intervals are of 1,000 bootstrap resamples of the pictures. Numbers that are not finite are refused.

    dreamood metrics --id id.npy --ood svhn=svhn.npy --ood textures.npy
    dreamood metrics --id id.npy --ood ood.npy --higher ood --output json
    dreamood metrics seed1/ seed2/ seed3/

In Python: np.save("id.npy", scores.astype("<f4"))`
}

// Validate tells the two uses apart.
func (c *MetricsCmd) Validate() error {
	switch files := c.ID != "" || len(c.OOD) > 0; {
	case files && len(c.Folders) > 0:
		return usage("give either --id and --ood, or folders")
	case !files && len(c.Folders) == 0:
		return usage("give --id and --ood, or folders that dreamood score wrote")
	case files && (c.ID == "" || len(c.OOD) == 0):
		return usage("both --id and --ood are needed")
	}
	return nil
}

// Run computes the metrics.
func (c *MetricsCmd) Run(ctx context.Context, s *Session) error {
	if len(c.Folders) > 0 {
		var list []evaluation.Summary
		for _, dir := range c.Folders {
			m, err := evaluation.Read(os.DirFS(dir))
			if err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			summary, err := m.Summarise(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			list = append(list, summary)
		}
		return s.spread(list)
	}
	id, err := c.read(c.ID)
	if err != nil {
		return err
	}
	var t table
	t.row("OOD", "PICTURES", "FPR95", "95 % INTERVAL", "AUROC", "95 % INTERVAL", "AUPR IN", "AUPR OUT", "FPR95, OOD POSITIVE")
	for _, given := range c.OOD {
		name, file := nameOf(given)
		values, err := c.read(file)
		if err != nil {
			return err
		}
		m, err := score.Evaluate(id, values)
		if err != nil {
			return fmt.Errorf("%s against %s: %w", c.ID, file, err)
		}
		i, err := score.Bootstrap(id, values, evaluation.Resamples, evaluation.Level, 1)
		if err != nil {
			return fmt.Errorf("%s against %s: %w", c.ID, file, err)
		}
		if s.json() {
			if err := s.value(struct {
				Name string `json:"name"`
				score.Metrics
				Intervals score.Intervals `json:"intervals"`
			}{name, m, i}); err != nil {
				return err
			}
			continue
		}
		between := func(i score.Interval) string { return fmt.Sprintf("%.1f to %.1f", 100*i.Low, 100*i.High) }
		t.row(name, m.OOD, percent(m.FPR95IDPositive), between(i.FPR95IDPositive), percent(m.AUROC), between(i.AUROC), percent(m.AUPRIn), percent(m.AUPROut), percent(m.FPR95OODPositive))
	}
	if !s.json() {
		t.print(s.Out)
		s.hint("%d ID pictures; FPR95: share of OOD accepted when 95 %% of ID is", len(id))
	}
	return nil
}

// read reads scores, and turns them where OOD is higher.
func (c *MetricsCmd) read(file string) ([]float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	data, shape, err := npy.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(shape) != 1 && !(len(shape) == 2 && shape[1] == 1) {
		return nil, fmt.Errorf("%s has the shape %v; want one number per picture, [N]: np.save(file, scores.ravel().astype('<f4'))", file, shape)
	}
	out := make([]float64, len(data))
	for i, v := range data {
		if out[i] = float64(v); c.Higher == "ood" {
			out[i] = -out[i]
		}
	}
	return out, nil
}

// nameOf takes NAME=FILE apart; a file alone is named after itself.
func nameOf(given string) (name, file string) {
	if name, file, ok := strings.Cut(given, "="); ok && name != "" && file != "" {
		if _, err := os.Stat(given); err != nil {
			return name, file
		}
	}
	return strings.TrimSuffix(filepath.Base(given), ".npy"), given
}
