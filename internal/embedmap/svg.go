package embedmap

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"math"
	"unicode/utf8"
)

// Point is a mark on the map.
type Point struct {
	X, Y    float64
	Class   int  // element of Map.Classes
	Sampled bool // a cross instead of a dot
}

// Map is what is drawn.
type Map struct {
	Title   string
	Lines   []string // below the title: settings, method
	Classes []string // names, in the order of the legend
	ID      string   // what a dot is, e.g. "ID embedding"
	Sampled string   // what a cross is, e.g. "outlier"
	Points  []Point
}

// Measures of the drawing, in pixels.
const (
	width     = 920
	margin    = 24
	plotWidth = 680
	plotTall  = 600
	inset     = 16  // of marks from the frame
	legendAt  = 728 // left edge
	lineTall  = 20
	mostNames = 22 // classes named in the legend
)

// SVG writes the drawing. Points that are no numbers are an error.
func (m Map) SVG(w io.Writer) error {
	place, err := m.fit()
	if err != nil {
		return err
	}
	top := margin + 30 + len(m.Lines)*18 + 10
	tall := top + plotTall + margin
	b := bufio.NewWriter(w) // keeps its first error for Flush
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" role="img" aria-label="%s">`+"\n",
		width, tall, width, tall, html.EscapeString(m.Title))
	p(`<rect width="100%%" height="100%%" fill="#fff"/>` + "\n")
	p(`<text x="%d" y="%d" font-size="20" font-weight="bold" fill="#111">%s</text>`+"\n", margin, margin+18, html.EscapeString(short(m.Title, 80)))
	for i, line := range m.Lines {
		p(`<text x="%d" y="%d" font-size="13" fill="#555">%s</text>`+"\n", margin, margin+40+18*i, html.EscapeString(short(line, 140)))
	}
	p(`<rect x="%d" y="%d" width="%d" height="%d" fill="#fafafa" stroke="#d0d0d0"/>`+"\n", margin, top, plotWidth, plotTall)
	m.marks(p, place, float64(top))
	m.legend(p, top)
	p("</svg>\n")
	return b.Flush()
}

// fit places the points in the frame, with one scale for both axes.
func (m Map) fit() (func(Point) (x, y float64), error) {
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for i, q := range m.Points {
		for k, v := range [2]float64{q.X, q.Y} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("point %d of the map is at (%v, %v)", i, q.X, q.Y)
			}
			low[k], high[k] = min(low[k], v), max(high[k], v)
		}
	}
	scale := min((plotWidth-2*inset)/max(high[0]-low[0], 1e-12), (plotTall-2*inset)/max(high[1]-low[1], 1e-12))
	return func(q Point) (x, y float64) {
		return margin + plotWidth/2 + (q.X-(low[0]+high[0])/2)*scale, plotTall/2 - (q.Y-(low[1]+high[1])/2)*scale
	}, nil
}

// marks draws the dots, and over them the crosses, each on a white edge that covers dots but no other cross.
func (m Map) marks(p func(string, ...any), place func(Point) (x, y float64), top float64) {
	layer := func(style func(class int) string, sampled bool, mark func(x, y float64) string) {
		for class := range m.Classes {
			p("<g %s>\n", style(class))
			for _, q := range m.Points {
				if q.Class == class && q.Sampled == sampled {
					x, y := place(q)
					p("%s\n", mark(x, y+top))
				}
			}
			p("</g>\n")
		}
	}
	cross := func(x, y float64) string { return fmt.Sprintf(`<path d="M%.1f %.1fl6 6m0-6l-6 6"/>`, x-3, y-3) }
	layer(func(class int) string { return fmt.Sprintf(`fill="%s" fill-opacity="0.45"`, Colour(class)) }, false,
		func(x, y float64) string { return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="3"/>`, x, y) })
	layer(func(int) string { return `stroke="#fff" stroke-width="3.4" stroke-linecap="round"` }, true, cross)
	layer(func(class int) string {
		return fmt.Sprintf(`stroke="%s" stroke-width="1.6" stroke-linecap="round"`, Colour(class))
	}, true, cross)
}

// legend says what the marks and colours are.
func (m Map) legend(p func(string, ...any), top int) {
	y := top + 14
	text := func(label string) {
		p(`<text x="%d" y="%d" font-size="13" fill="#333">%s</text>`+"\n", legendAt+20, y+4, html.EscapeString(short(label, 22)))
		y += lineTall
	}
	counts := map[bool]int{}
	for _, q := range m.Points {
		counts[q.Sampled]++
	}
	p(`<circle cx="%d" cy="%d" r="4" fill="#555" fill-opacity="0.6"/>`+"\n", legendAt+6, y)
	text(fmt.Sprintf("%s (%d)", m.ID, counts[false]))
	p(`<path d="M%d %dl6 6m0-6l-6 6" stroke="#555" stroke-width="1.6" stroke-linecap="round"/>`+"\n", legendAt+3, y-3)
	text(fmt.Sprintf("%s (%d)", m.Sampled, counts[true]))
	y += lineTall / 2
	for i, name := range m.Classes {
		if i == mostNames {
			text(fmt.Sprintf("and %d more", len(m.Classes)-mostNames))
			return
		}
		p(`<rect x="%d" y="%d" width="12" height="12" rx="2" fill="%s"/>`+"\n", legendAt, y-6, Colour(i))
		text(name)
	}
}

// short cuts text that would run out of its place.
func short(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}
