package report

import (
	"html"
	"html/template"
	"strings"
)

// Space around the drawing area of a chart with axes, in user units.
const (
	marginLeft   = 50
	marginRight  = 14
	marginTop    = 12
	marginBottom = 44
)

// plot is an SVG chart being drawn. Colours come from the page's style sheet by class name, so that a chart follows
// the reader's light or dark setting. Text is escaped here and nowhere else.
type plot struct {
	b             strings.Builder
	width, height float64
	x, y          scale
}

// axis is one axis of a chart: its label and its range.
type axis struct {
	label  string
	lo, hi float64
	ticks  int
}

// newPlot begins a chart of a size in user units; label is what a screen reader says of it.
func newPlot(width, height float64, class, label string) *plot {
	p := &plot{width: width, height: height}
	p.b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" class="` + html.EscapeString(class) +
		`" viewBox="0 0 ` + coordinate(width) + ` ` + coordinate(height) +
		`" role="img" aria-label="` + html.EscapeString(label) + `">`)
	return p
}

// newChart begins a chart with axes, gridlines and tick labels.
func newChart(width, height float64, label string, x, y axis) *plot {
	p := newPlot(width, height, "chart", label)
	x.lo, x.hi = spread(x.lo, x.hi)
	y.lo, y.hi = spread(y.lo, y.hi)
	p.x = scale{x.lo, x.hi, marginLeft, width - marginRight}
	p.y = scale{y.lo, y.hi, height - marginBottom, marginTop}
	at, labels := ticks(y.lo, y.hi, max(y.ticks, 1))
	for i, v := range at {
		p.line("grid", p.x.from, p.y.at(v), p.x.to, p.y.at(v))
		p.text("tick end", p.x.from-7, p.y.at(v)+4, labels[i])
	}
	at, labels = ticks(x.lo, x.hi, max(x.ticks, 1))
	for i, v := range at {
		p.line("grid", p.x.at(v), p.y.from, p.x.at(v), p.y.to)
		p.text("tick mid", p.x.at(v), p.y.from+16, labels[i])
	}
	p.line("axis", p.x.from, p.y.from, p.x.to, p.y.from)
	p.text("label mid", (p.x.from+p.x.to)/2, height-6, x.label)
	p.b.WriteString(`<text class="label mid" transform="translate(12 ` + coordinate((p.y.from+p.y.to)/2) +
		`) rotate(-90)">` + html.EscapeString(y.label) + `</text>`)
	return p
}

// line draws a straight line.
func (p *plot) line(class string, x1, y1, x2, y2 float64) {
	p.path(class, "M"+coordinate(x1)+" "+coordinate(y1)+"L"+coordinate(x2)+" "+coordinate(y2))
}

// path draws a path in user units.
func (p *plot) path(class, d string) {
	p.b.WriteString(`<path class="` + html.EscapeString(class) + `" d="` + html.EscapeString(d) + `"/>`)
}

// curve joins the points with finite coordinates by a line; a gap stays a gap.
func (p *plot) curve(class string, xs, ys []float64) {
	var d strings.Builder
	pen := "M"
	for i := range min(len(xs), len(ys)) {
		if !finite(xs[i]) || !finite(ys[i]) {
			pen = "M"
			continue
		}
		d.WriteString(pen + coordinate(p.x.at(xs[i])) + " " + coordinate(p.y.at(ys[i])))
		pen = "L"
	}
	if d.Len() > 0 {
		p.path(class, d.String())
	}
}

// circle draws a circle; a title that is not empty shows as its tooltip.
func (p *plot) circle(class string, x, y, r float64, title string) {
	p.b.WriteString(`<circle class="` + html.EscapeString(class) + `" cx="` + coordinate(x) + `" cy="` + coordinate(y) +
		`" r="` + coordinate(r) + `">`)
	if title != "" {
		p.b.WriteString(`<title>` + html.EscapeString(title) + `</title>`)
	}
	p.b.WriteString(`</circle>`)
}

// text writes s with its baseline at y; the classes mid and end centre it or end it at x.
func (p *plot) text(class string, x, y float64, s string) {
	p.b.WriteString(`<text class="` + html.EscapeString(class) + `" x="` + coordinate(x) + `" y="` + coordinate(y) + `">` +
		html.EscapeString(s) + `</text>`)
}

// svg ends the chart.
func (p *plot) svg() template.HTML {
	p.b.WriteString(`</svg>`)
	return template.HTML(p.b.String())
}
