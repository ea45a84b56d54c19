package report

import (
	"fmt"
	"html/template"
	"strings"
)

// series is one curve of a chart.
type series struct {
	// Name and Value are its entry in the legend.
	Name, Value string
	// Key is its CSS class.
	Key  string
	X, Y []float64
}

// figure is a chart with its heading, legend and the sentence below it.
type figure struct {
	Title   string
	Chart   template.HTML
	Legend  []entry
	Caption string
}

// entry is one line of a legend: Kind names the drawing of its mark.
type entry struct{ Kind, Key, Name, Value string }

// Empty reports whether there is nothing to draw.
func (f figure) Empty() bool { return f.Chart == "" }

// rocFigure draws the ROC curves of all detectors on one OOD set, with the points at 95 % ID recall marked.
func rocFigure(set oodSet, detectors []Detector) figure {
	f := figure{Title: "ROC curve"}
	var curves []series
	for i, r := range set.results {
		x, y := widen(r.ROCFPR), widen(r.ROCTPR)
		if len(numbers(x)) < 2 || len(numbers(y)) < 2 {
			continue
		}
		curves = append(curves, series{Name: detectors[i].Name, Key: detectorKey(i), X: x, Y: y})
		f.Legend = append(f.Legend, entry{"stroke", detectorKey(i), detectors[i].Name, "AUROC " + percentSign(r.AUROC)})
	}
	if len(curves) == 0 {
		return f
	}
	f.Caption = "Dashed diagonal: chance. Dots: FPR95, the share of OOD accepted at 95 % of ID accepted."
	p := newChart(380, 300, "ROC curves against "+set.name+": "+legendText(f.Legend),
		axis{"OOD accepted (false positive rate), %", 0, 100, 5}, axis{"ID accepted (true positive rate), %", 0, 100, 5})
	p.line("chance", p.x.at(0), p.y.at(0), p.x.at(100), p.y.at(100))
	p.line("rule", p.x.at(0), p.y.at(95), p.x.at(100), p.y.at(95))
	for _, c := range curves {
		p.curve("line "+c.Key, hundredfold(c.X), hundredfold(c.Y))
	}
	for i, r := range set.results {
		if finite(r.FPR95) && len(r.ROCFPR) > 1 {
			p.circle("dot "+detectorKey(i), p.x.at(100*r.FPR95), p.y.at(95), 4.5,
				detectors[i].Name+": FPR95 "+percentSign(r.FPR95))
		}
	}
	f.Chart = p.svg()
	return f
}

// curveFigure draws curves over training steps, the vertical axis from zero.
func curveFigure(title, label, caption string, curves []series) figure {
	f := figure{Title: title, Caption: caption}
	var xs, ys []float64
	for _, c := range curves {
		if len(numbers(c.Y)) == 0 {
			continue
		}
		xs, ys = append(xs, c.X...), append(ys, c.Y...)
		f.Legend = append(f.Legend, entry{"stroke", c.Key, c.Name, c.Value})
	}
	if len(f.Legend) == 0 {
		return f
	}
	_, right := extent(xs)
	low, high := extent(ys)
	p := newChart(380, 270, title+": "+legendText(f.Legend), axis{"step", 0, right, 5},
		axis{label, min(0, low*1.05), high * 1.05, 5})
	for _, c := range curves {
		p.curve("line "+c.Key, c.X, c.Y)
	}
	f.Chart = p.svg()
	return f
}

// lossFigures draw the training of the space and of the detectors.
func lossFigures(space Space, detectors []Detector) []figure {
	s := series{Name: "cross-entropy over the anchors", Key: "space"}
	for _, pt := range space.Loss {
		s.X, s.Y = append(s.X, float64(pt.Step)), append(s.Y, pt.Value)
	}
	s.Value = lastOf(s.Y)
	var class, outlier []series
	for i, d := range detectors {
		ce := series{Name: d.Name, Key: detectorKey(i)}
		ood := ce
		total := series{Name: "total, L_CE + β·L_ood", Key: "space"}
		var any bool
		for _, pt := range d.Loss {
			x := float64(pt.Step)
			ce.X, ce.Y = append(ce.X, x), append(ce.Y, pt.Classification)
			ood.X, ood.Y = append(ood.X, x), append(ood.Y, pt.OOD)
			total.X, total.Y = append(total.X, x), append(total.Y, pt.Total)
			any = any || pt.OOD != 0
		}
		ce.Value, ood.Value, total.Value = lastOf(ce.Y), lastOf(ood.Y), lastOf(total.Y)
		class = append(class, ce)
		if any {
			ood.Name = "L_ood, " + d.Name
			outlier = append(outlier, ood, total)
		}
	}
	return []figure{
		curveFigure("Embedding space", "loss", "Logits are cosines to the anchors, divided by 0.1.", []series{s}),
		curveFigure("Detectors: classification", "L_CE", "Cross-entropy on ID training pictures.", class),
		curveFigure("Detectors: outliers", "loss", "L_ood: cross-entropy of the energy head, ID against outliers.", outlier),
	}
}

// lastOf is the legend's word on the end of a curve.
func lastOf(ys []float64) string {
	for i := len(ys) - 1; i >= 0; i-- {
		if finite(ys[i]) {
			return fmt.Sprintf("ends at %s", decimal(ys[i], 3))
		}
	}
	return ""
}

// legendText is a legend as a sentence, for screen readers.
func legendText(legend []entry) string {
	var parts []string
	for _, e := range legend {
		parts = append(parts, strings.TrimSpace(e.Name+" "+e.Value))
	}
	return strings.Join(parts, "; ")
}

// widen copies values to float64.
func widen(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// hundredfold turns shares into percent.
func hundredfold(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = 100 * v
	}
	return out
}
