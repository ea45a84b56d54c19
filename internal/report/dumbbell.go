package report

import "math"

// Lay-out of a dumbbell chart, in user units.
const (
	dumbbellWidth = 460
	dumbbellStep  = 12 // between the detectors of a row
	dumbbellNames = 118
)

// dumbbellFigure draws one metric of all detectors, a row per OOD set and one for their mean, with 95 % intervals.
func dumbbellFigure(m metric, detectors []Detector, sets []oodSet) figure {
	better := "lower is better"
	if m.Higher {
		better = "higher is better"
	}
	f := figure{Title: m.Name + ", %: " + better}
	var names []string
	var rows [][]estimate
	for _, s := range sets {
		names = append(names, s.name)
		rows = append(rows, estimates(len(detectors), func(i int) estimate { return s.measured(m, detectors, i) }))
	}
	if in := counted(sets); len(in) > 1 {
		names = append(names, "mean")
		rows = append(rows, estimates(len(detectors), func(i int) estimate { return meanOf(in, m, detectors, i) }))
	}
	lo, hi := dumbbellRange(rows)
	if !finite(lo) {
		return f
	}
	for i, d := range detectors {
		f.Legend = append(f.Legend, entry{"dot", detectorKey(i), d.Name, ""})
	}
	rowHeight := float64(len(detectors))*dumbbellStep + 14
	height := float64(len(rows))*rowHeight + 40
	p := newPlot(dumbbellWidth, height, "chart", f.Title+". The table below has the numbers.")
	p.x = scale{lo, hi, dumbbellNames, dumbbellWidth - 18}
	at, labels := ticks(lo, hi, 5)
	for i, v := range at {
		p.line("grid", p.x.at(v), 8, p.x.at(v), height-30)
		p.text("tick mid", p.x.at(v), height-12, labels[i])
	}
	for i, row := range rows {
		class := "name"
		if i == len(sets) {
			class = "name strong"
		}
		y := 8 + (float64(i)+0.5)*rowHeight
		if i > 0 {
			p.line("grid", 0, y-rowHeight/2, dumbbellWidth-18, y-rowHeight/2)
		}
		p.text(class+" end", dumbbellNames-12, y+4, short(names[i], 16))
		p.dumbbell(y, row, detectors)
	}
	f.Chart = p.svg()
	return f
}

// estimates collects one estimate per detector.
func estimates(n int, of func(i int) estimate) []estimate {
	out := make([]estimate, n)
	for i := range out {
		out[i] = of(i)
	}
	return out
}

// dumbbellRange is the range of all values with their intervals, in percent, with some air.
func dumbbellRange(rows [][]estimate) (lo, hi float64) {
	var all []float64
	for _, row := range rows {
		for _, e := range row {
			half := z95 * e.StdErr
			if !finite(half) {
				half = 0
			}
			all = append(all, 100*(e.Value-half), 100*(e.Value+half))
		}
	}
	lo, hi = extent(all)
	if !finite(lo) {
		return lo, hi
	}
	air := max((hi-lo)*0.06, 0.5)
	return max(0, math.Floor(lo-air)), min(100, math.Ceil(hi+air))
}

// dumbbell draws one row: below each other, a dot for each detector on the whisker of its interval.
func (p *plot) dumbbell(y float64, row []estimate, detectors []Detector) {
	var any bool
	for i, e := range row {
		if !finite(e.Value) {
			continue
		}
		any = true
		at := y + (float64(i)-float64(len(row)-1)/2)*dumbbellStep
		if half := z95 * e.StdErr; finite(half) {
			p.line("whisker "+detectorKey(i), p.x.at(100*(e.Value-half)), at, p.x.at(100*(e.Value+half)), at)
		}
		p.circle("dot "+detectorKey(i), p.x.at(100*e.Value), at, 4.6,
			detectors[i].Name+": "+percentSign(e.Value)+" "+halfWidth(z95*e.StdErr))
	}
	if !any {
		p.text("tick", p.x.from+6, y+4, noData)
	}
}
