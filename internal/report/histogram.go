package report

import (
	"math"
	"strings"
)

// bins is the number of bars of a histogram.
const bins = 40

// scoreRange is the common range of a detector's histograms: all but the outermost 0.25 % on either side of its ID
// and OOD scores, widened to hold the threshold.
func scoreRange(d Detector) (lo, hi float64) {
	lo, hi = math.NaN(), math.NaN()
	groups := [][]float64{numbers(d.IDScores)}
	for _, r := range d.OOD {
		groups = append(groups, numbers(r.Scores))
	}
	for _, g := range groups {
		if len(g) == 0 {
			continue
		}
		if q := quantile(g, 0.0025); !(lo <= q) {
			lo = q
		}
		if q := quantile(g, 0.9975); !(hi >= q) {
			hi = q
		}
	}
	if finite(d.Threshold) && finite(lo) {
		lo, hi = min(lo, d.Threshold), max(hi, d.Threshold)
	}
	return spread(lo, hi)
}

// shares counts values into equal bins over lo..hi, as shares of all; values outside go to the outermost bins.
func shares(values []float64, lo, hi float64) []float64 {
	out := make([]float64, bins)
	for _, v := range values {
		i := int(float64(bins) * (v - lo) / (hi - lo))
		out[min(max(i, 0), bins-1)] += 1 / float64(len(values))
	}
	return out
}

// above is the share of values at or above a threshold; NaN when there are none.
func above(values []float64, threshold float64) float64 {
	var n int
	for _, v := range values {
		if v >= threshold {
			n++
		}
	}
	return float64(n) / float64(len(values))
}

// scoreFigure draws the ID and OOD scores of one detector over each other, and its threshold.
func scoreFigure(d Detector, r OODResult, setName string) figure {
	f := figure{Title: "Scores, " + d.Name}
	id, out := numbers(d.IDScores), numbers(r.Scores)
	if len(id) == 0 && len(out) == 0 {
		return f
	}
	lo, hi := scoreRange(d)
	idShares, outShares := shares(id, lo, hi), shares(out, lo, hi)
	_, top := extent(append(idShares, outShares...))
	f.Legend = []entry{{"area", "id", "ID test", acceptedText(id, d.Threshold)},
		{"area", "ood", setName, acceptedText(out, d.Threshold)}}
	p := newChart(380, 300, "Histogram of scores of "+d.Name+": "+legendText(f.Legend),
		axis{"score (higher is more ID)", lo, hi, 5}, axis{"share of pictures, %", 0, max(100*top*1.08, 1), 5})
	p.bars("id", idShares, lo, hi)
	p.bars("ood", outShares, lo, hi)
	if finite(d.Threshold) {
		x := p.x.at(d.Threshold)
		p.line("threshold", x, p.y.from, x, p.y.to)
		side, dx := "mark", 5.0
		if x > (p.x.from+p.x.to)/2 {
			side, dx = "mark end", -5
		}
		p.text(side, x+dx, p.y.to+11, "threshold "+decimal(d.Threshold, 2))
	}
	f.Chart = p.svg()
	f.Caption = "Right of the threshold a picture is accepted as ID."
	return f
}

// acceptedText is the legend's word on the pictures above the threshold.
func acceptedText(values []float64, threshold float64) string {
	if len(values) == 0 {
		return noData
	}
	if !finite(threshold) {
		return ""
	}
	return percentSign(above(values, threshold)) + " accepted"
}

// bars draws a histogram as one filled outline.
func (p *plot) bars(key string, heights []float64, lo, hi float64) {
	var d strings.Builder
	d.WriteString("M" + coordinate(p.x.at(lo)) + " " + coordinate(p.y.from))
	for i, h := range heights {
		left := lo + (hi-lo)*float64(i)/float64(len(heights))
		right := lo + (hi-lo)*float64(i+1)/float64(len(heights))
		y := coordinate(p.y.at(100 * h))
		d.WriteString("L" + coordinate(p.x.at(left)) + " " + y + "L" + coordinate(p.x.at(right)) + " " + y)
	}
	d.WriteString("L" + coordinate(p.x.at(hi)) + " " + coordinate(p.y.from) + "Z")
	p.path("bars "+key, d.String())
}
