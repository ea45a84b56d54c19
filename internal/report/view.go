package report

import (
	"fmt"
	"html/template"
	"slices"
)

// view is what the template shows: every number formatted, every chart drawn.
type view struct {
	Page
	When        string
	Style       template.CSS
	ClassStyle  template.CSS
	Summary     summary
	Results     results
	Gallery     []galleryClass
	Map         mapView
	Sets        []setView
	Loss        []figure
	SpaceRows   []KV
	HasSettings bool
}

// results are the comparison tables and the charts above them.
type results struct {
	Metrics   []metric
	Dumbbells []figure
	Overall   []row
	Over      string
	Blocks    []block
}

// setView is one OOD set: the scores of every detector, and the ROC curves of all.
type setView struct {
	Name, Apart string
	Count       int
	Figures     []figure
}

// newView prepares a clean page for the template.
func newView(p Page) view {
	sets := oodSets(p.Detectors)
	v := view{Page: p, Style: template.CSS(pageStyle), ClassStyle: classStyle(len(p.Classes))}
	if v.Title == "" {
		v.Title = "dreamood report"
	}
	if !p.Generated.IsZero() {
		v.When = p.Generated.Format("2 January 2006, 15:04 MST")
	}
	v.Gallery = newGallery(p.Classes)
	v.Summary = newSummary(p, sets, v.Gallery)
	v.Results = newResults(p.Detectors, sets)
	v.Map = newMapView(p.Map, p.Classes)
	for _, s := range sets {
		v.Sets = append(v.Sets, newSetView(s, p.Detectors))
	}
	v.Loss = lossFigures(p.Space, p.Detectors)
	v.SpaceRows = spaceRows(p.Space)
	for _, t := range p.Settings {
		v.HasSettings = v.HasSettings || len(t.Rows) > 0
	}
	return v
}

// newResults compares the detectors over all sets and set by set.
func newResults(detectors []Detector, sets []oodSet) results {
	r := results{Metrics: metrics()}
	if len(detectors) == 0 {
		return r
	}
	higher := make([]bool, len(r.Metrics))
	for i, m := range r.Metrics {
		higher[i] = m.Higher
	}
	in := counted(sets)
	r.Over = overSets(in, sets)
	r.Overall = comparisonRows(detectors, append([]bool{true}, higher...), func(i, j int) estimate {
		if j == 0 {
			return accuracyOf(detectors[i])
		}
		return meanOf(in, r.Metrics[j-1], detectors, i)
	})
	for _, s := range sets {
		r.Blocks = append(r.Blocks, block{Name: s.name, Count: s.count, Apart: s.apart,
			Rows: comparisonRows(detectors, higher, func(i, j int) estimate {
				return s.measured(r.Metrics[j], detectors, i)
			})})
	}
	for _, m := range r.Metrics[:2] {
		if f := dumbbellFigure(m, detectors, sets); !f.Empty() {
			r.Dumbbells = append(r.Dumbbells, f)
		}
	}
	return r
}

// newSetView draws the charts of one OOD set.
func newSetView(s oodSet, detectors []Detector) setView {
	v := setView{Name: s.name, Apart: s.apart, Count: s.count}
	for i, d := range detectors {
		v.Figures = append(v.Figures, scoreFigure(d, s.results[i], s.name))
	}
	v.Figures = append(v.Figures, rocFigure(s, detectors))
	return v
}

// spaceRows describe the embedding space.
func spaceRows(s Space) []KV {
	var rows []KV
	if s.Model != "" {
		rows = append(rows, KV{"diffusion model", s.Model})
	}
	if s.Dimension > 0 {
		rows = append(rows, KV{"dimension", count(s.Dimension)})
	}
	if s.Bank > 0 {
		rows = append(rows, KV{"embeddings in the bank", count(s.Bank)})
	}
	if finite(s.Accuracy) && s.Accuracy > 0 {
		rows = append(rows, KV{"accuracy on held-out pictures (nearest anchor)", percentSign(s.Accuracy)})
	}
	return rows
}

// Columns is the width of the table by OOD set: the detector and the metrics.
func (r results) Columns() int { return 1 + len(r.Metrics) }

// Number formats the count of a set for the template.
func (s setView) Number() string { return plural(s.Count, "picture", "pictures") }

// Number formats the count of a block for the template.
func (b block) Number() string { return plural(b.Count, "picture", "pictures") }

// Drawn says how many points the map holds, and of how many where some were left out.
func (m mapView) Drawn() string {
	of := func(n, all int, what string) string {
		if n < all {
			return fmt.Sprintf("%s of %s %s", count(n), count(all), what)
		}
		return count(n) + " " + what
	}
	return of(m.Dots, m.AllDots, "ID embeddings") + ", " + of(m.Crosses, m.AllOuts, "outliers")
}

// clean copies the page with every text made visible: valid UTF-8 without control characters.
func clean(p Page) Page {
	p.Title, p.Subtitle, p.Version = visible(p.Title), visible(p.Subtitle), visible(p.Version)
	p.Space.Model = visible(p.Space.Model)
	p.Classes = slices.Clone(p.Classes)
	for i := range p.Classes {
		p.Classes[i].Name, p.Classes[i].Word = visible(p.Classes[i].Name), visible(p.Classes[i].Word)
	}
	p.Detectors = slices.Clone(p.Detectors)
	for i := range p.Detectors {
		d := &p.Detectors[i]
		d.Name = visible(d.Name)
		d.OOD = slices.Clone(d.OOD)
		for j := range d.OOD {
			d.OOD[j].Name, d.OOD[j].Apart = visible(d.OOD[j].Name), visible(d.OOD[j].Apart)
		}
	}
	p.Settings = slices.Clone(p.Settings)
	for i := range p.Settings {
		p.Settings[i] = Table{visible(p.Settings[i].Title), cleanRows(p.Settings[i].Rows)}
	}
	p.Provenance, p.Timings = cleanRows(p.Provenance), cleanRows(p.Timings)
	p.Notes = slices.Clone(p.Notes)
	for i := range p.Notes {
		p.Notes[i] = visible(p.Notes[i])
	}
	return p
}

// cleanRows copies rows with their texts made visible.
func cleanRows(rows []KV) []KV {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i] = KV{visible(rows[i].Key), visible(rows[i].Value)}
	}
	return rows
}
