package waterfall

import (
	"bufio"
	"errors"
	"fmt"
	"html"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dreamood/dreamood/internal/tracefile"
)

// Measures of the drawing, in pixels.
const (
	width    = 1280
	margin   = 20
	barsAt   = 430 // left edge of the time axis
	barsEnd  = width - 80
	rowTall  = 19
	indent   = 14
	headTall = 92
)

// colours of processes: those of Okabe and Ito, which every kind of colour vision tells apart.
var colours = [...]string{"#222222", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a89a00"}

const failedColour = "#c00000"

// SVG draws the spans of one trace.
func SVG(w io.Writer, title string, spans []tracefile.Span) error {
	if len(spans) == 0 {
		return errors.New("no spans to draw")
	}
	spans = apart(spans)
	rows := rowsOf(spans)
	from, to := extent(spans)
	d := drawing{w: bufio.NewWriter(w), from: from, whole: max(to.Sub(from), time.Microsecond)}
	for _, r := range rows {
		if !slices.Contains(d.processes, r.Process) {
			d.processes = append(d.processes, r.Process)
		}
	}
	left := 0
	if len(rows) > mostRows {
		left, rows = len(rows)-mostRows, rows[:mostRows]
	}
	tall := headTall + rowTall*len(rows) + 2*margin
	d.print(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" font-size="12" role="img" aria-label="%s">`+"\n",
		width, tall, width, tall, html.EscapeString(title))
	d.print(`<rect width="100%%" height="100%%" fill="#fff"/>` + "\n")
	d.head(title, fmt.Sprintf("trace %s · %d spans · %s · begins %s", rows[0].Trace, len(spans), span(d.whole), from.UTC().Format("2006-01-02 15:04:05 UTC")))
	d.axis(len(rows))
	for i, r := range rows {
		d.row(i, r)
	}
	if left > 0 {
		d.text(margin, headTall+rowTall*len(rows)+14, "#555", fmt.Sprintf("and %d more", left))
	}
	d.print("</svg>\n")
	return d.w.Flush() // has kept the first error
}

type drawing struct {
	w         *bufio.Writer
	from      time.Time
	whole     time.Duration
	processes []string
}

func (d *drawing) print(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

func (d *drawing) text(x, y int, colour, text string) {
	d.print(`<text x="%d" y="%d" fill="%s">%s</text>`+"\n", x, y, colour, html.EscapeString(text))
}

func (d *drawing) colour(process string) string {
	return colours[slices.Index(d.processes, process)%len(colours)]
}

// at is the place of a moment on the time axis.
func (d *drawing) at(t time.Duration) float64 {
	return barsAt + (barsEnd-barsAt)*float64(t)/float64(d.whole)
}

// head is the title, what was traced, and the colours of the processes.
func (d *drawing) head(title, about string) {
	d.print(`<text x="%d" y="%d" font-size="18" font-weight="bold" fill="#111">%s</text>`+"\n", margin, margin+12, html.EscapeString(title))
	d.text(margin, margin+31, "#555", about)
	x := margin
	for _, p := range d.processes {
		d.print(`<rect x="%d" y="%d" width="11" height="11" rx="2" fill="%s"/>`+"\n", x, margin+43, d.colour(p))
		d.text(x+16, margin+53, "#333", p)
		x += 16 + 8*utf8.RuneCountInString(p) + 18
	}
	d.print(`<rect x="%d" y="%d" width="11" height="11" rx="2" fill="none" stroke="#888" stroke-dasharray="2 2"/>`+"\n", x, margin+43)
	d.text(x+16, margin+53, "#333", "waits in the queue")
	d.print(`<rect x="%d" y="%d" width="11" height="11" rx="2" fill="#fff" stroke="%s" stroke-width="2"/>`+"\n", x+140, margin+43, failedColour)
	d.text(x+156, margin+53, "#333", "failed")
}

// axis draws the lines of the clock.
func (d *drawing) axis(rows int) {
	for t := time.Duration(0); t <= d.whole; t += step(d.whole) {
		x := d.at(t)
		d.print(`<path d="M%.1f %dV%d" stroke="#e4e4e4"/>`+"\n", x, headTall-6, headTall+rowTall*rows)
		d.print(`<text x="%.1f" y="%d" text-anchor="middle" font-size="11" fill="#777">%s</text>`+"\n", x, headTall-10, span(t))
	}
}

// row draws the name, the bar and the duration of a span.
func (d *drawing) row(i int, r row) {
	y := headTall + rowTall*i
	if i%2 == 1 {
		d.print(`<rect x="%d" y="%d" width="%d" height="%d" fill="#f5f7fa" fill-opacity="0.6"/>`+"\n", margin, y, width-2*margin, rowTall)
	}
	x := margin + indent*min(r.depth, 12)
	most := (barsAt - 16 - x) * 10 / 62 // letters of 6.2 pixels
	d.text(x, y+14, "#222", short(r.label(), most))
	took, end := time.Duration(0), 0.0
	for _, s := range append([]tracefile.Span{r.Span}, r.more...) {
		from, to := d.at(s.Start.Sub(d.from)), d.at(s.End.Sub(d.from))
		d.print(`<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="1.5" %s><title>%s</title></rect>`+"\n",
			from, y+4, max(to-from, 1.5), rowTall-8, d.style(s), html.EscapeString(r.Process+": "+r.label()+", "+span(s.End.Sub(s.Start))))
		took, end = took+s.End.Sub(s.Start), max(end, to, from+1.5)
	}
	text := span(took)
	if len(r.more) > 0 {
		text += " together"
	}
	d.print(`<text x="%.1f" y="%d" font-size="10.5" fill="#555">%s</text>`+"\n", end+5, y+14, text)
}

// style is how a bar looks.
func (d *drawing) style(s tracefile.Span) string {
	style := fmt.Sprintf(`fill="%s"`, d.colour(s.Process))
	switch {
	case s.Failed:
		return style + fmt.Sprintf(` fill-opacity="0.25" stroke="%s" stroke-width="2"`, failedColour)
	case s.Name == "queue wait":
		return `fill="#fff" stroke="#888" stroke-dasharray="3 2"`
	case s.Kind == 3: // the client's side of a call: its server's side lies in it
		return style + ` fill-opacity="0.45"`
	}
	return style
}

// short cuts text that would run out of its place.
func short(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:max(most-1, 1)]) + "…"
}
