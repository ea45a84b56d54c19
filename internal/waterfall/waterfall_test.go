package waterfall

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/tracefile"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// made makes a span from and to so many milliseconds.
func made(id, parent, name string, from, to int) tracefile.Span {
	ms := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Millisecond) }
	return tracefile.Span{Trace: "t", ID: id, Parent: parent, Name: name, Process: "generator", Kind: 1, Start: ms(from), End: ms(to), Attributes: map[string]string{}}
}

func TestRows(t *testing.T) {
	spans := []tracefile.Span{
		made("root", "", "dreamood imagine", 0, 1000), made("late", "root", "shard", 600, 990), made("early", "root", "shard", 10, 500),
		made("orphan", "elsewhere", "lost", 5, 6), made("self", "self", "itself", 7, 8),
	}
	for i := range 5 { // short ones are folded, and what lies below them
		id := fmt.Sprint("call", i)
		spans = append(spans, made(id, "early", "a.b.v1.Sampler/Sample", 20+i, 21+i), made(id+"s", id, "a.b.v1.Sampler/Sample", 20+i, 21+i))
	}
	for i := range 3 { // long ones are not
		spans = append(spans, made(fmt.Sprint("long", i), "late", "denoise", 600+100*i, 700+100*i))
	}
	spans[1].Attributes = map[string]string{"dreamood.shard": "3", "dreamood.attempt": "2", "dreamood.outcome": "done"}
	var got []string
	for _, r := range rowsOf(spans) {
		got = append(got, strings.Repeat(" ", r.depth)+r.label())
	}
	want := []string{
		"dreamood imagine", " shard", "  Sampler/Sample · 5 of them", "   Sampler/Sample · 5 of them",
		" shard 3 · attempt 2 · done", "  denoise", "  denoise", "  denoise", "lost", "itself",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// bars reads the drawing as XML and returns place and width of every bar by its tooltip.
func bars(t *testing.T, svg []byte) map[string][2]float64 {
	t.Helper()
	found := map[string][2]float64{}
	var last [2]float64
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatalf("the drawing is no XML: %v", err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case ok && start.Name.Local == "rect":
			last = place(start.Attr)
		case ok && start.Name.Local == "title":
			var text string
			if err := d.DecodeElement(&text, &start); err != nil {
				t.Fatal(err)
			}
			found[text] = last
		}
	}
}

func place(attributes []xml.Attr) (xw [2]float64) {
	for _, a := range attributes {
		switch a.Name.Local {
		case "x":
			fmt.Sscan(a.Value, &xw[0])
		case "width":
			fmt.Sscan(a.Value, &xw[1])
		}
	}
	return xw
}

// TestSVG: bars lie on the clock, text is escaped, a failure is seen, and a trace without end is cut and says so.
func TestSVG(t *testing.T) {
	spans := []tracefile.Span{made("root", "", `train <"a" & b>`, 0, 1000), made("half", "root", "work", 500, 1000)}
	spans[1].Failed = true
	if two := apart([]tracefile.Span{{Process: "a", Instance: "x"}, {Process: "a", Instance: "y"}, {Process: "b"}}); two[0].Process != "a 1" || two[1].Process != "a 2" || two[2].Process != "b" {
		t.Errorf("processes apart: %v", two)
	}
	var svg bytes.Buffer
	if err := SVG(&svg, "<title>", spans); err != nil {
		t.Fatal(err)
	}
	found := bars(t, svg.Bytes())
	whole, half := found[`generator: train <"a" & b>, 1 s`], found["generator: work, 500 ms"]
	if whole != [2]float64{barsAt, barsEnd - barsAt} || half != [2]float64{(barsAt + barsEnd) / 2, (barsEnd - barsAt) / 2} {
		t.Errorf("bars at %v and %v of %v", whole, half, found)
	}
	if strings.Count(svg.String(), failedColour) != 2 { // the legend, and the bar
		t.Error("the failure is not drawn")
	}
	for i := range mostRows + 10 {
		spans = append(spans, made(fmt.Sprint(i), "root", fmt.Sprint("step ", i), i, i+1))
	}
	svg.Reset()
	if err := SVG(&svg, "long", spans); err != nil || !strings.Contains(svg.String(), "and 12 more") {
		t.Errorf("a long trace: %v", err)
	}
	if err := SVG(io.Discard, "none", nil); err == nil {
		t.Error("nothing was drawn without a word")
	}
}

func TestStep(t *testing.T) {
	for whole, want := range map[time.Duration]time.Duration{
		time.Microsecond: time.Microsecond, 13 * time.Second: 2 * time.Second, time.Second: 200 * time.Millisecond, 799 * time.Millisecond: 100 * time.Millisecond,
	} {
		if got := step(whole); got != want {
			t.Errorf("the lines of %s are %s apart, want %s", whole, got, want)
		}
	}
}
