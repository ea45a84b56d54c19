package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// SetPage is the report of an outlier set: what a gate took and refused, and how it looks.
type SetPage struct {
	Title, Subtitle string
	Generated       time.Time // the zero time is not shown
	Version         string
	Classes         []SetClass
	Gated           bool // whether there was a gate; without one nothing is known of yields
	Judged          bool // whether a detector gave confidences
	Measured        bool // whether distances to the bank are known
	Taken, Refused  Values
	Settings        []Table
	Provenance      []KV
	Notes           []string
}

// Values are those of many pictures. NaN stands for none.
type Values struct{ Confidence, Distance []float64 }

// SetClass is the contact sheet of a class.
type SetClass struct {
	Name                        string
	Wanted, Taken, Tried, Limit int
	RefusedBy                   map[string]int
	Pictures                    []SetPicture
	More                        int // pictures that are not shown
	Refused                     []SetPicture
}

// SetPicture is a picture with what was measured of it.
type SetPicture struct {
	PNG       []byte
	Neighbour []byte // the ID picture whose embedding is nearest, PNG; none is not shown
	Index     int
	Note      string // why it was refused
	Detail    string // its numbers, a line each
}

//go:embed set.html.tmpl
var setTemplate string

//go:embed set.css
var setStyle string

// sheetView is what the template shows.
type sheetView struct {
	SetPage
	When      string
	Style     template.CSS
	Sentence  string
	Tiles     []setTile
	Reasons   []string
	Rows      []yieldRow
	Figures   []figure
	Sheets    []setSheet
	Neighbour bool // whether any picture has one
}

type setTile struct{ Name, Value, Detail string }

type yieldRow struct {
	Name                string
	Wanted, Taken       string
	Tried, Limit, Share string
	Counts              []string
	Short               bool
}

type setSheet struct {
	Name, Key      string
	Summary        string
	Pictures       []pairShown
	Refused        []pairShown
	More           int
	WithNeighbours bool
}

type pairShown struct {
	Picture, Neighbour shown
	HasNeighbour       bool
	Note               string
}

// WriteSet writes the page as one HTML document in UTF-8. The same page gives the same bytes.
func WriteSet(w io.Writer, p SetPage) error {
	return write(w, setTemplate, nil, newSheetView(p))
}

func newSheetView(p SetPage) sheetView {
	p.Title, p.Subtitle, p.Version = visible(p.Title), visible(p.Subtitle), visible(p.Version)
	v := sheetView{SetPage: p, Style: template.CSS(pageStyle + setStyle)}
	if !p.Generated.IsZero() {
		v.When = p.Generated.Format("2 January 2006, 15:04 MST")
	}
	reasons := map[string]int{}
	var wanted, taken, tried int
	for _, c := range p.Classes {
		wanted, taken, tried = wanted+c.Wanted, taken+c.Taken, tried+c.Tried
		for reason, n := range c.RefusedBy {
			reasons[reason] += n
		}
	}
	v.Reasons = slices.Sorted(maps.Keys(reasons))
	for i, c := range p.Classes {
		v.Rows = append(v.Rows, newYieldRow(c, v.Reasons))
		v.Sheets = append(v.Sheets, newSheet(c, classKey(i, len(p.Classes))))
		v.Neighbour = v.Neighbour || v.Sheets[i].WithNeighbours
	}
	v.Style += classStyle(len(p.Classes))
	v.tiles(wanted, taken, tried, reasons)
	if p.Judged {
		v.Figures = append(v.Figures, valuesFigure("Confidence of the detector", "largest softmax probability", p.Taken.Confidence, p.Refused.Confidence))
	}
	if p.Measured {
		v.Figures = append(v.Figures, valuesFigure("Distance to the bank", "distance to the nearest ID embeddings (L2)", p.Taken.Distance, p.Refused.Distance))
	}
	return v
}

// tiles says the main numbers.
func (v *sheetView) tiles(wanted, taken, tried int, reasons map[string]int) {
	v.Tiles = []setTile{{"pictures", count(taken), fmt.Sprintf("of %s, in %s", count(wanted), plural(len(v.Classes), "class", "classes"))}}
	if !v.Gated {
		v.Sentence = fmt.Sprintf("%s, taken as they came: the set had no gate.", plural(taken, "picture", "pictures"))
		return
	}
	most := ""
	for _, reason := range v.Reasons {
		if most == "" || reasons[reason] > reasons[most] {
			most = reason
		}
	}
	v.Tiles = append(v.Tiles, setTile{"yield", percentSign(float64(taken) / float64(max(tried, 1))), fmt.Sprintf("%s were tried", plural(tried, "candidate", "candidates"))})
	if most != "" {
		v.Tiles = append(v.Tiles, setTile{"most refused for", reasonText(most), plural(reasons[most], "candidate", "candidates")})
	}
	v.Sentence = fmt.Sprintf("The gate took %s of %s.", count(taken), plural(tried, "candidate", "candidates"))
	if taken < wanted {
		var short []string
		for _, c := range v.Classes {
			if c.Taken < c.Wanted {
				short = append(short, visible(c.Name))
			}
		}
		v.Sentence += fmt.Sprintf(" %s are missing: the limit of candidates was reached in %s.", count(wanted-taken), strings.Join(short, ", "))
	}
}

// Heads are the reasons in words.
func (v sheetView) Heads() (out []string) {
	for _, reason := range v.Reasons {
		out = append(out, reasonText(reason))
	}
	return out
}

// reasonText is a reason in words.
func reasonText(reason string) string { return strings.ReplaceAll(visible(reason), "_", " ") }

func newYieldRow(c SetClass, reasons []string) yieldRow {
	r := yieldRow{Name: visible(c.Name), Wanted: count(c.Wanted), Taken: count(c.Taken), Tried: count(c.Tried), Limit: count(c.Limit), Short: c.Taken < c.Wanted}
	if r.Share = noData; c.Tried > 0 {
		r.Share = percentSign(float64(c.Taken) / float64(c.Tried))
	}
	for _, reason := range reasons {
		r.Counts = append(r.Counts, count(c.RefusedBy[reason]))
	}
	return r
}

func newSheet(c SetClass, key string) setSheet {
	s := setSheet{Name: visible(c.Name), Key: key, More: c.More, Summary: plural(c.Taken, "picture", "pictures")}
	pairs := func(list []SetPicture) (out []pairShown) {
		for _, p := range list {
			what := fmt.Sprintf("picture %d of %s", p.Index, s.Name)
			tip := what + "\n" + p.Detail
			x := pairShown{Picture: show(p.PNG, what, tip), Note: reasonText(p.Note)}
			if x.HasNeighbour = len(p.Neighbour) > 0; x.HasNeighbour {
				x.Neighbour = show(p.Neighbour, "ID picture nearest to it", "the ID picture nearest to "+what)
				s.WithNeighbours = true
			}
			out = append(out, x)
		}
		return out
	}
	s.Pictures, s.Refused = pairs(c.Pictures), pairs(c.Refused)
	return s
}

// valuesFigure draws values of pictures that were taken and refused over each other.
func valuesFigure(title, label string, taken, refused []float64) figure {
	f := figure{Title: title}
	keep := func(list []float64) []float64 {
		return slices.DeleteFunc(slices.Clone(list), func(x float64) bool { return !finite(x) })
	}
	taken, refused = keep(taken), keep(refused)
	if len(taken)+len(refused) == 0 {
		return f
	}
	lo, hi := extent(append(slices.Clone(taken), refused...))
	lo, hi = spread(lo, hi)
	a, b := shares(taken, lo, hi), shares(refused, lo, hi)
	_, top := extent(append(slices.Clone(a), b...))
	f.Legend = []entry{{"area", "id", "taken", count(len(taken))}}
	if len(refused) > 0 {
		f.Legend = append(f.Legend, entry{"area", "ood", "refused, examples", count(len(refused))})
	}
	p := newChart(380, 300, "Histogram: "+title+": "+legendText(f.Legend), axis{label, lo, hi, 5}, axis{"share of pictures, %", 0, max(100*top*1.08, 1), 5})
	p.bars("id", a, lo, hi)
	if len(refused) > 0 {
		p.bars("ood", b, lo, hi)
	}
	f.Chart = p.svg()
	if len(refused) > 0 {
		f.Caption = "Of refused pictures a set keeps a few of every class and reason: their curve shows where they lie, not how many there are."
	}
	return f
}
