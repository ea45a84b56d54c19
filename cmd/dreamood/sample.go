package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/internal/app"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// SampleCmd samples embeddings from NumPy files.
type SampleCmd struct {
	Bank    string `required:"" type:"path" placeholder:"FILE" help:"ID embeddings: .npy of float32, [classes, n, D] as published, or [n, D] for one class."`
	Labels  string `type:"path" placeholder:"FILE" help:"Class of every row of a bank [n, D], whole numbers from 0: for classes of different sizes."`
	Anchors string `type:"path" placeholder:"FILE" help:"Token embeddings of the classes: .npy of float32, [classes, D]. Samples take their norms (default: unit norm)."`
	Noise   string `type:"path" placeholder:"FILE" help:"Standard normal noise to use instead of random numbers: .npy of float32, [rounds, candidates, D], to compare picks with any other implementation."`
	Class   []int  `placeholder:"N" help:"Only this class, counted from 0; repeatable (default: all)."`
	Count   int    `placeholder:"N" help:"Samples per class, 1 to 1000000 (default: one round)."`
	Rounds  int    `placeholder:"N" help:"Rounds per class in place of --count; one round gives pick × keep samples, and the paper takes 100."`
	Seed    uint64 `field:"sampling.seed" placeholder:"N" help:"Seed (default 1). The same seed gives the same bytes on any number of cores."`
	Tune    string `placeholder:"GOAL" help:"Find sigma first, by bisection: the quantile of the ID distances, such as 0.99, where the median distance of the samples is to be, or distance=X, or cosine=X to the anchor."`

	Out    string `required:"" type:"path" placeholder:"FILE" help:"Samples: .npy of float32, [classes, n, D]."`
	Report string `type:"path" placeholder:"FILE" help:"What was done and found in every class, as JSON."`
	Picks  string `type:"path" placeholder:"FILE" help:"Which boundary point and noise every sample came from, as JSON."`
	Map    string `type:"path" placeholder:"FILE" help:"A map of ID embeddings and samples, as SVG."`
	MapBy  string `default:"tsne" enum:"tsne,pca" help:"How the map is made: tsne or pca (default tsne)."`

	MethodFlags `embed:""`
}

// Help teaches the command.
func (SampleCmd) Help() string {
	return `Stage 2 of Dream-OOD on its own: embeddings of low likelihood at the border of every class, exactly, from files that
NumPy wrote to files that NumPy reads. No server is needed, and the same sampler runs in one. Distances are squared L2
between unit vectors, 0 to 4, to the K-th nearest ID embedding of the class.

    dreamood sample --bank bank.npy --anchors anchors.npy --out outliers.npy --seed 7
    dreamood sample --bank bank.npy --anchors anchors.npy --out outliers.npy --k 300 --select 50 --pick 50 \
        --noises 1500 --sigma 0.07 --keep 2 --rounds 100 --report report.json --picks picks.json
    dreamood sample --bank bank.npy --out outliers.npy --class 3 --count 500 --tune distance=1.5 --map map.svg
    dreamood sample --bank bank.npy --out outliers.npy --mode reference --noise noise.npy --picks picks.json
    dreamood sample --bank rows.npy --labels labels.npy --out inliers.npy --method inlier

In Python: np.save("bank.npy", bank.astype("<f4")) writes a bank, and np.load("outliers.npy") reads the samples.`
}

// Run samples.
func (c *SampleCmd) Run(ctx context.Context, s *Session) error {
	show := s.progress()
	defer show.close()
	started := time.Now()
	result, err := app.Sampling{
		Bank: c.Bank, Labels: c.Labels, Anchors: c.Anchors, Noise: c.Noise, Classes: c.Class, Settings: c.MethodFlags.message(c.Seed),
		Count: c.Count, Rounds: c.Rounds, Tune: c.Tune, Out: c.Out, Report: c.Report, Picks: c.Picks, Map: c.Map, MapBy: c.MapBy,
	}.Run(ctx, func(done, total int) {
		show.show(standing{what: "sample", done: int64(done), total: int64(total), unit: "samples"})
	})
	if err != nil {
		return err
	}
	show.close()
	if s.json() {
		for _, r := range result.Reports {
			if err := s.object(r); err != nil {
				return err
			}
		}
		return nil
	}
	c.print(s, result)
	for _, f := range []struct{ what, path string }{{"report is", c.Report}, {"picks are", c.Picks}, {"map is", c.Map}} {
		if f.path != "" {
			s.say("the %s in %s", f.what, f.path)
		}
	}
	s.hint("%d samples in %s", result.Shape[0]*result.Shape[1], span(time.Since(started)))
	return nil
}

// print says for people what was found.
func (c *SampleCmd) print(s *Session, result *app.Sampled) {
	if t := result.Tuning; t != nil {
		var tries table
		tries.row("SIGMA", "DISTANCE", "ID QUANTILE", "COSINE TO SOURCE", "TO ANCHOR")
		for _, try := range t.Trials {
			tries.row(fmt.Sprintf("%.5f", try.Sigma), fmt.Sprintf("%.4f", try.Distance), fmt.Sprintf("%.3f", try.Quantile),
				fmt.Sprintf("%.3f", try.SourceCosine), fmt.Sprintf("%.3f", try.AnchorCosine))
		}
		tries.print(s.Out)
		s.say("sigma %.5f meets %s", t.Sigma, c.Tune)
		s.say("")
	}
	var t table
	t.row("CLASS", "BANK", "SAMPLES", "SOURCES", "ID MEDIAN", "ID MAX", "SAMPLES' MEDIAN", "BEYOND ID", "FOREIGN", "COSINE TO SOURCE", "TO ANCHOR")
	for _, r := range result.Reports {
		t.row(r.GetClass(), r.GetBankSize(), r.GetSamples(), r.GetSources(), quantileOf(r.GetIdQuantiles(), 3), quantileOf(r.GetIdQuantiles(), 6), quantileOf(r.GetSampleQuantiles(), 3),
			percent(float64(r.GetBeyondId())), percent(float64(r.GetForeign())), fmt.Sprintf("%.3f", r.GetMeanSourceCosine()), fmt.Sprintf("%.3f", r.GetMeanAnchorCosine()))
	}
	t.print(s.Out)
	warned(s, result.Reports)
	s.say("%d × %d samples of %d dimensions are in %s", result.Shape[0], result.Shape[1], result.Shape[2], c.Out)
}

// quantileOf is one of the seven quantiles of a report: 3 the median, 6 the largest.
func quantileOf(quantiles []float32, i int) string {
	if i >= len(quantiles) {
		return "-"
	}
	return fmt.Sprintf("%.4f", quantiles[i])
}

// warned prints the warnings of all classes to standard error, those of many classes shortened.
func warned(s *Session, reports []*samplerv1.SamplingReport) {
	const most = 5
	count := 0
	for _, r := range reports {
		for _, w := range r.GetWarnings() {
			if count++; count <= most {
				s.complain("class %s: %s", r.GetClass(), w)
			}
		}
	}
	if count > most {
		s.complain("and %d more warnings; the report has them all", count-most)
	}
}
