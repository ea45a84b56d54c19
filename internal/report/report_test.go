package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

// written is the page as text.
func written(t *testing.T, p Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var svgPattern = regexp.MustCompile(`(?s)<svg.*?</svg>`)

// charts checks that every chart is well-formed XML and holds no NaN, and returns them.
func charts(t *testing.T, page string) []string {
	t.Helper()
	found := svgPattern.FindAllString(page, -1)
	for _, chart := range found {
		d := xml.NewDecoder(strings.NewReader(chart))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("chart is not well-formed: %v\n%.600s", err, chart)
			}
		}
		if bad := regexp.MustCompile(`NaN|Inf`).FindString(chart); bad != "" {
			t.Errorf("chart holds %s: %.600s", bad, chart)
		}
	}
	return found
}

// sections are the ids that every page has, whatever it is made of.
var sections = []string{"summary", "gallery", "space", "scores", "training", "settings", "reading"}

func checkSections(t *testing.T, page string) {
	t.Helper()
	for _, id := range sections {
		if n := strings.Count(page, `<section id="`+id+`"`); n != 1 {
			t.Errorf("section %s is there %d times", id, n)
		}
	}
	for _, tag := range []string{"section", "article", "figure", "table", "tbody", "tr", "ul", "details", "fieldset", "div", "span", "label", "p"} {
		opened := len(regexp.MustCompile(`<`+tag+`[ >]`).FindAllString(page, -1))
		if closed := strings.Count(page, "</"+tag+">"); opened != closed {
			t.Errorf("<%s> is opened %d times and closed %d times", tag, opened, closed)
		}
	}
}

func TestWholePage(t *testing.T) {
	p := fixture(drawn)
	page := written(t, p)
	checkSections(t, page)
	// map, two dumbbells, per OOD set two histograms and a ROC curve, three loss charts
	if got, want := len(charts(t, page)), 1+2+5*3+3; got != want {
		t.Errorf("%d charts, want %d", got, want)
	}
	if got, want := strings.Count(page, "<img "), 10*(8+4+28)+20; got != want {
		t.Errorf("%d pictures, want %d", got, want)
	}
	for _, want := range []string{
		"From 5,000 real pictures of 10 classes, 400 outliers were imagined",
		"ID accuracy went from 74.3\u202f% to 73.8\u202f%", "mean of 3 of 5 OOD sets",
		"not in the mean: grey digits, easy to tell", `<span class="chip better">`, `<span class="chip worse">`,
		"k-th-neighbour distance", "ID is the positive class", "23 November 2026, 18:40 UTC", "sha256:52c02f3d",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if again := written(t, p); again != page {
		t.Error("the same page gave other bytes the second time")
	}
	if len(page) > 4<<20 {
		t.Errorf("the page has %d bytes, more than 4 MiB", len(page))
	}
}

func TestPageLoadsNothing(t *testing.T) {
	page := written(t, fixture(drawn))
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]{0,24})`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "data:image/") && !strings.HasPrefix(m[1], "#") {
			t.Errorf("the page points to %q", m[1])
		}
	}
	for _, bad := range []string{"<script", "@import", "url(", "<link", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

func TestEmptyPage(t *testing.T) {
	page := written(t, Page{})
	checkSections(t, page)
	if got := len(charts(t, page)); got != 0 {
		t.Errorf("an empty page has %d charts", got)
	}
	if strings.Count(page, noData) < 8 {
		t.Errorf("an empty page says %q only %d times", noData, strings.Count(page, noData))
	}
}

// TestPartsMissing takes one part at a time out of the fixture; what is left must still stand.
func TestPartsMissing(t *testing.T) {
	for name, spoil := range map[string]func(*Page){
		"classes":        func(p *Page) { p.Classes = nil },
		"outliers":       func(p *Page) { p.Classes[3].Outliers = nil },
		"words":          func(p *Page) { p.Classes[3].Words = nil },
		"map":            func(p *Page) { p.Map = Map{} },
		"anchors":        func(p *Page) { p.Map.Anchors = nil },
		"points":         func(p *Page) { p.Map.Points = nil },
		"one point":      func(p *Page) { p.Map = Map{Points: []MapPoint{{1, 1, 0, false}}} },
		"class numbers":  func(p *Page) { p.Map.Points[0].Class, p.Map.Anchors[0].Class = 99, -3 },
		"detectors":      func(p *Page) { p.Detectors = nil },
		"second":         func(p *Page) { p.Detectors = p.Detectors[:1] },
		"third":          func(p *Page) { p.Detectors = append(p.Detectors, p.Detectors...) },
		"OOD sets":       func(p *Page) { p.Detectors[0].OOD, p.Detectors[1].OOD = nil, nil },
		"other OOD sets": func(p *Page) { p.Detectors[0].OOD = p.Detectors[0].OOD[2:] },
		"scores":         func(p *Page) { p.Detectors[0].IDScores, p.Detectors[1].OOD[0].Scores = nil, nil },
		"curves":         func(p *Page) { p.Detectors[1].OOD[0].ROCFPR = nil },
		"losses":         func(p *Page) { p.Space.Loss, p.Detectors[0].Loss = nil, nil },
		"settings":       func(p *Page) { p.Settings, p.Provenance, p.Timings, p.Notes = nil, nil, nil, nil },
		"time":           func(p *Page) { p.Generated = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			p := fixture(func(class string, n int) [][]byte { return drawn(class, min(n, 2)) })
			spoil(&p)
			page := written(t, p)
			checkSections(t, page)
			charts(t, page)
			if strings.Contains(page, "NaN") {
				t.Error("the page shows NaN")
			}
		})
	}
}

func TestNotANumber(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	nan32 := float32(nan)
	p := fixture(func(class string, n int) [][]byte { return drawn(class, 1) })
	p.Map.Points[0].X, p.Map.Points[1].Y, p.Map.Anchors[0].X = nan, inf, nan
	p.Map.Explained[0] = nan
	p.Space.Accuracy, p.Space.Loss[3].Value = nan, inf
	p.Classes[0].Outliers[0].KthDistance, p.Classes[0].Outliers[0].AnchorCosine = nan, inf
	d := &p.Detectors[1]
	d.Accuracy, d.Threshold, d.IDScores[0], d.Loss[0].Total = nan, nan, nan32, nan
	r := &d.OOD[0]
	r.AUROC, r.AUPRIn, r.AUPROut, r.FPR95, r.FPR95OODPositive = nan, inf, nan, nan, -inf
	r.Scores, r.ROCFPR[5], r.ROCTPR[6] = []float32{nan32, nan32}, nan32, float32(inf)
	page := written(t, p)
	checkSections(t, page)
	charts(t, page)
	for _, bad := range []string{"NaN", "+Inf", "Inf\u202f%"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page shows %q", bad)
		}
	}
	if !strings.Contains(page, `<span class="num">no data</span>`) {
		t.Error("the table does not say that data is missing")
	}
}

func TestHostileText(t *testing.T) {
	evil := "</style><script>alert('x')</script>\"><img src=x onerror=y>\x00\xff&amp;"
	p := fixture(func(class string, n int) [][]byte { return drawn(class, 1) })
	p.Title, p.Subtitle, p.Version, p.Space.Model = evil, evil, evil, evil
	p.Classes[0].Name, p.Classes[0].Word = evil, evil
	p.Detectors[0].Name = evil
	p.Detectors[0].OOD[0].Name, p.Detectors[0].OOD[0].Apart = evil, evil
	p.Settings[0] = Table{evil, []KV{{evil, evil}}}
	p.Provenance, p.Timings, p.Notes = []KV{{evil, evil}}, []KV{{evil, evil}}, []string{evil}
	page := written(t, p)
	checkSections(t, page)
	charts(t, page)
	for _, bad := range []string{"<script", "<img src=x", "</style><", "\x00", "\xff"} {
		if n := strings.Count(page, bad); n > 0 {
			t.Errorf("the page holds %q %d times", bad, n)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the text is gone instead of escaped")
	}
	if p.Title != evil || p.Classes[0].Name != evil || p.Settings[0].Rows[0].Key != evil {
		t.Error("Write changed its input")
	}
}

func TestManyClasses(t *testing.T) {
	p := Page{}
	for i := range 100 {
		p.Classes = append(p.Classes, Class{Name: fmt.Sprintf("class %d", i)})
		p.Map.Anchors = append(p.Map.Anchors, Anchor{math.Cos(float64(i)), math.Sin(float64(2 * i)), i})
	}
	page := written(t, p)
	charts(t, page)
	if !strings.Contains(page, ".k99{--k:hsl(") {
		t.Error("the hundredth class has no colour")
	}
}

// failing refuses to be written to after some bytes.
type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

func TestWriteReportsTheWriter(t *testing.T) {
	for _, left := range []int{0, 5000} {
		if err := Write(&failing{left}, Page{}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("a writer that fails after %d bytes gave %v", left, err)
		}
	}
}
