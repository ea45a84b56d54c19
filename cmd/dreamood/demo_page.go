package main

import (
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/project"
	"github.com/dreamood/dreamood/internal/report"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// metrics is metrics.json: the measurements of both detectors.
func (d *demo) metrics() any {
	type set struct {
		Name             string  `json:"name"`
		Count            int32   `json:"count"`
		AUROC            float64 `json:"auroc"`
		AUPRIn           float64 `json:"aupr_in"`
		AUPROut          float64 `json:"aupr_out"`
		FPR95            float64 `json:"fpr95_id_positive"`
		FPR95OODPositive float64 `json:"fpr95_ood_positive"`
	}
	type detector struct {
		Detector  string  `json:"detector"`
		Outliers  string  `json:"outliers,omitempty"`
		Accuracy  float64 `json:"id_accuracy"`
		IDCount   int32   `json:"id_count"`
		Score     string  `json:"score"`
		Threshold float64 `json:"threshold"`
		OOD       []set   `json:"ood"`
	}
	of := func(t *trainerv1.Detector) detector {
		e := t.Evaluation
		out := detector{t.Name, t.Set, e.IdAccuracy, e.IdCount, t.Score, t.Threshold, nil}
		for _, o := range e.Ood {
			out.OOD = append(out.OOD, set{o.Name, o.Count, o.Auroc, o.AuprIn, o.AuprOut, o.Fpr95, o.Fpr95OodPositive})
		}
		return out
	}
	return struct {
		Version string   `json:"version"`
		Seed    uint64   `json:"seed"`
		Plain   detector `json:"plain"`
		With    detector `json:"with_outliers"`
	}{version, d.Seed, of(d.plain), of(d.better)}
}

// page is the report.
func (d *demo) page(g *gathered) report.Page {
	p := report.Page{
		Title:     "Imagined outliers",
		Subtitle:  fmt.Sprintf("dreamood demo: %d classes of CIFAR-10, %d outliers each", len(d.space.Classes), d.PerClass),
		Generated: time.Now(), Version: version, Outliers: int(d.PerClass) * len(d.space.Classes),
		Detectors: []report.Detector{detectorOf("plain", d.plain), detectorOf("with imagined outliers", d.better)},
		Space:     report.Space{Model: d.space.Model, Accuracy: d.space.Accuracy, Dimension: int(d.space.Dimension), Bank: g.bank.Rows},
		Map:       d.embeddingMap(g),
	}
	for _, l := range d.space.Loss {
		p.Space.Loss = append(p.Space.Loss, report.CurvePoint{Step: int(l.Step), Value: l.Loss})
	}
	for label, class := range d.space.Classes {
		c := report.Class{Name: class.Name, Word: class.Word, Inliers: g.neighbours[label], Words: pngs(g.words[label])}
		for _, o := range ofPage(g.outliers[label]) {
			c.Outliers = append(c.Outliers, report.Picture{
				PNG: o.Png, KthDistance: float64(o.Record.KthDistance), AnchorCosine: float64(o.Record.AnchorCosine), Index: int(o.Record.Index),
			})
		}
		p.Classes = append(p.Classes, c)
	}
	d.describe(&p, g)
	return p
}

// describe fills the settings, the provenance, the timings and the remarks.
func (d *demo) describe(p *report.Page, g *gathered) {
	r := g.outliers[0][0].Record
	s, t, e := r.Sampling, d.better.Training, d.space.Training
	num := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
	p.Settings = []report.Table{
		{Title: "Space", Rows: []report.KV{
			{Key: "encoder", Value: fmt.Sprintf("ResNet-9, width %d", e.Width)}, {Key: "epochs", Value: fmt.Sprint(e.Epochs)},
			{Key: "batch", Value: fmt.Sprint(e.BatchSize)}, {Key: "peak learning rate", Value: num(e.LearningRate)},
		}},
		{Title: "Sampling", Rows: []report.KV{
			{Key: "method", Value: s.Method}, {Key: "K", Value: fmt.Sprint(s.K)}, {Key: "boundary points", Value: fmt.Sprint(s.Select)},
			{Key: "noises per round", Value: fmt.Sprint(s.Noises)}, {Key: "sigma", Value: num(s.Sigma)}, {Key: "kept per point", Value: fmt.Sprint(s.Keep)},
		}},
		{Title: "Rendering", Rows: []report.KV{
			{Key: "model", Value: r.Rendering.Model}, {Key: "prompt", Value: r.Rendering.Prompt}, {Key: "steps", Value: fmt.Sprint(r.Rendering.Steps)},
			{Key: "guidance", Value: num(r.Rendering.Guidance)},
		}},
		{Title: "Detector", Rows: []report.KV{
			{Key: "network", Value: fmt.Sprintf("ResNet-9, width %d", t.Width)}, {Key: "epochs", Value: fmt.Sprint(t.Epochs)},
			{Key: "batch", Value: fmt.Sprintf("%d ID + %d outliers", t.BatchSize, t.OutlierBatchSize)}, {Key: "β", Value: num(t.Beta)},
			{Key: "peak learning rate", Value: num(t.LearningRate)}, {Key: "seed", Value: fmt.Sprint(t.Seed)},
		}},
	}
	p.Provenance = []report.KV{
		{Key: "diffusion model, sha256", Value: r.ModelDigest}, {Key: "training pictures, sha256", Value: d.better.DatasetDigest},
		{Key: "encoder", Value: d.space.Encoder}, {Key: "detector", Value: d.better.Model},
		{Key: "ONNX Runtime", Value: onnx.Version()}, {Key: "machine", Value: fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())},
	}
	for _, t := range d.times {
		p.Timings = append(p.Timings, report.KV{Key: t.what, Value: t.took.Round(100 * time.Millisecond).String()})
	}
	p.Notes = []string{
		"This is a demonstration: 3,000 training pictures, small networks, one seed and small test sets. Differences of a few points are within chance; the project's results pages hold larger experiments.",
		"The diffusion model was trained on the training pictures of CIFAR-10 and CIFAR-100, so the OOD set cifar100 (test pictures) is of a kind that it has seen; textures is not.",
		"The ID test pictures and both OOD sets are lossless PNG files; the training pictures are JPEG.",
		"The test pictures and the OOD sets were used to measure, never to train or to choose settings. The threshold was set on held-out training pictures.",
	}
}

// embeddingMap projects the bank, the outliers and the anchors on the first two principal components of the bank.
func (d *demo) embeddingMap(g *gathered) report.Map {
	plane, err := project.Fit(g.bank)
	if err != nil {
		return report.Map{} // the page says "no data"
	}
	m := report.Map{Explained: plane.Explained}
	add := func(rows matrix.Matrix, class func(int) int, outlier bool) {
		unit, err := rows.Normalised()
		if err != nil {
			return
		}
		xy, err := plane.Project(unit)
		if err != nil {
			return
		}
		for i, p := range xy {
			m.Points = append(m.Points, report.MapPoint{X: p[0], Y: p[1], Class: class(i), Outlier: outlier})
		}
	}
	thin := max(1, g.bank.Rows/1500)
	var some matrix.Matrix
	var labels []int
	for i := 0; i < g.bank.Rows; i += thin {
		some.Data, some.Rows, some.Cols = append(some.Data, g.bank.Row(i)...), some.Rows+1, g.bank.Cols
		labels = append(labels, g.labels[i])
	}
	add(some, func(i int) int { return labels[i] }, false)
	for label := range d.space.Classes {
		add(embeddings(g.outliers[label]), func(int) int { return label }, true)
	}
	for label, class := range d.space.Classes {
		row := matrix.Matrix{Rows: 1, Cols: len(class.Anchor), Data: class.Anchor}
		unit, err := row.Normalised()
		if err != nil {
			continue
		}
		if xy, err := plane.Project(unit); err == nil {
			m.Anchors = append(m.Anchors, report.Anchor{X: xy[0][0], Y: xy[0][1], Class: label})
		}
	}
	return m
}

func detectorOf(name string, t *trainerv1.Detector) report.Detector {
	e := t.Evaluation
	out := report.Detector{Name: name, Accuracy: e.IdAccuracy, IDCount: int(e.IdCount), IDScores: e.IdScores, Threshold: t.Threshold}
	for _, o := range e.Ood {
		apart := ""
		for _, set := range demoSets {
			if set.name == o.Name {
				apart = set.apart
			}
		}
		out.OOD = append(out.OOD, report.OODResult{
			Name: o.Name, Apart: apart, Count: int(o.Count), AUROC: o.Auroc, AUPRIn: o.AuprIn, AUPROut: o.AuprOut, FPR95: o.Fpr95,
			FPR95OODPositive: o.Fpr95OodPositive, Scores: o.Scores, ROCFPR: o.RocFpr, ROCTPR: o.RocTpr,
		})
	}
	for _, l := range t.Loss {
		out.Loss = append(out.Loss, report.LossPoint{Step: int(l.Step), Total: l.Total, Classification: l.Classification, OOD: l.Ood})
	}
	return out
}
