package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Size of the embedding map and how much it draws.
const (
	mapWidth   = 760
	mapHeight  = 600
	mapPadding = 26
	mapDots    = 6000 // ID points drawn at most
	mapCrosses = 4000 // outliers drawn at most
	mapLayers  = 6    // classes take turns in so many layers, so that none covers all others
)

// mapView is the embedding map as the page shows it.
type mapView struct {
	Chart            template.HTML
	Classes          []entry
	Dots, Crosses    int
	AllDots, AllOuts int
	Anchors          int
	Explained        string
}

// newMapView draws the map: dots for ID, crosses for outliers, a ringed label for every anchor.
func newMapView(m Map, classes []Class) mapView {
	dots, crosses := split(m.Points)
	v := mapView{AllDots: len(dots), AllOuts: len(crosses)}
	dots, crosses = thin(dots, mapDots), thin(crosses, mapCrosses)
	v.Dots, v.Crosses = len(dots), len(crosses)
	var anchors []Anchor
	for _, a := range m.Anchors {
		if finite(a.X) && finite(a.Y) {
			anchors = append(anchors, a)
		}
	}
	v.Anchors = len(anchors)
	if len(dots)+len(crosses)+len(anchors) == 0 {
		return v
	}
	for i, c := range classes {
		v.Classes = append(v.Classes, entry{Kind: "area", Key: classKey(i, len(classes)), Name: c.Name})
	}
	if sum := m.Explained[0] + m.Explained[1]; finite(sum) && sum > 0 {
		v.Explained = fmt.Sprintf("%s along the horizontal and %s along the vertical axis",
			percentSign(m.Explained[0]), percentSign(m.Explained[1]))
	}
	p := newPlot(mapWidth, mapHeight, "chart scatter", fmt.Sprintf(
		"Embedding map: %d ID embeddings as dots, %d imagined outliers as crosses, %d anchors",
		v.Dots, v.Crosses, v.Anchors))
	p.fit(dots, crosses, anchors)
	p.b.WriteString(`<g class="show-id">`)
	p.marks("point", dots, len(classes), "h0")
	p.b.WriteString(`</g><g class="show-out">`)
	p.marks("cross", crosses, len(classes), "m-3.2-3.2l6.4 6.4m0-6.4l-6.4 6.4")
	p.b.WriteString(`</g><g class="show-anchor">`)
	p.anchors(anchors, classes)
	p.b.WriteString(`</g>`)
	v.Chart = p.svg()
	return v
}

// split sorts points into ID and outliers and drops those without a place.
func split(points []MapPoint) (dots, crosses []MapPoint) {
	for _, pt := range points {
		switch {
		case !finite(pt.X) || !finite(pt.Y):
		case pt.Outlier:
			crosses = append(crosses, pt)
		default:
			dots = append(dots, pt)
		}
	}
	return dots, crosses
}

// thin keeps at most n of the points, evenly spaced.
func thin(points []MapPoint, n int) []MapPoint {
	if len(points) <= n {
		return points
	}
	kept := make([]MapPoint, n)
	for i := range kept {
		kept[i] = points[i*len(points)/n]
	}
	return kept
}

// fit lays both axes at one scale, so that distances look alike in every direction.
func (p *plot) fit(dots, crosses []MapPoint, anchors []Anchor) {
	var xs, ys []float64
	for _, pt := range append(append([]MapPoint(nil), dots...), crosses...) {
		xs, ys = append(xs, pt.X), append(ys, pt.Y)
	}
	for _, a := range anchors {
		xs, ys = append(xs, a.X), append(ys, a.Y)
	}
	x0, x1 := extent(xs)
	y0, y1 := extent(ys)
	x0, x1 = spread(x0, x1)
	y0, y1 = spread(y0, y1)
	inner := [2]float64{p.width - 2*mapPadding, p.height - 2*mapPadding}
	unit := max((x1-x0)/inner[0], (y1-y0)/inner[1])
	dx, dy := (unit*inner[0]-(x1-x0))/2, (unit*inner[1]-(y1-y0))/2
	p.x = scale{x0 - dx, x1 + dx, mapPadding, p.width - mapPadding}
	p.y = scale{y0 - dy, y1 + dy, p.height - mapPadding, mapPadding}
}

// marks draws points of each class in a few paths; shape is the path of one mark, relative to its point.
func (p *plot) marks(class string, points []MapPoint, classes int, shape string) {
	for layer := range mapLayers {
		byClass := make(map[string]*strings.Builder)
		for i := layer; i < len(points); i += mapLayers {
			key := classKey(points[i].Class, classes)
			if byClass[key] == nil {
				byClass[key] = &strings.Builder{}
			}
			byClass[key].WriteString("M" + coordinate(p.x.at(points[i].X)) + " " + coordinate(p.y.at(points[i].Y)) + shape)
		}
		for i := -1; i < classes; i++ {
			key := classKey(i, classes)
			if d := byClass[key]; d != nil {
				p.path(class+" "+key, d.String())
			}
		}
	}
}

// rectangle is a label's place.
type rectangle struct{ x, y, w, h float64 }

func (r rectangle) overlaps(o rectangle) bool {
	return r.x < o.x+o.w && o.x < r.x+r.w && r.y < o.y+o.h && o.y < r.y+r.h
}

// anchors draws every anchor with its class name beside it, where the name covers no other label or anchor.
func (p *plot) anchors(anchors []Anchor, classes []Class) {
	var taken []rectangle
	for _, a := range anchors {
		taken = append(taken, rectangle{p.x.at(a.X) - 7, p.y.at(a.Y) - 7, 14, 14})
	}
	for i, a := range anchors {
		key, name := classKey(a.Class, len(classes)), "?"
		if key != "kx" {
			name = classes[a.Class].Name
		}
		x, y := p.x.at(a.X), p.y.at(a.Y)
		label := short(name, 20)
		at := p.place(x, y, float64(len([]rune(label)))*9+8, 20, taken, i)
		taken = append(taken, at)
		p.b.WriteString(`<g class="` + key + `">`)
		cx, cy := at.x+at.w/2, at.y+at.h/2
		if math.Hypot(cx-x, cy-y) > at.w/2+at.h {
			p.line("leader", x, y, cx, cy)
		}
		p.circle("anchor", x, y, 5.5, name)
		p.text("name mid", cx, at.y+15, label)
		p.b.WriteString(`</g>`)
	}
}

// place finds a free place for a label w by h near (x, y), trying ever wider rings; own indexes the anchor in taken.
func (p *plot) place(x, y, w, h float64, taken []rectangle, own int) rectangle {
	first := rectangle{x - w/2, y - h - 8, w, h}
	for ring := range 8 {
		r := float64(ring) * 14
		for _, at := range []rectangle{
			{x - w/2, y - h - 8 - r, w, h}, {x - w/2, y + 8 + r, w, h},
			{x + 9 + r, y - h/2, w, h}, {x - w - 9 - r, y - h/2, w, h},
			{x + 5 + r, y - h - 5 - r, w, h}, {x - w - 5 - r, y - h - 5 - r, w, h},
			{x + 5 + r, y + 5 + r, w, h}, {x - w - 5 - r, y + 5 + r, w, h},
		} {
			free := at.x >= 2 && at.y >= 2 && at.x+at.w <= p.width-2 && at.y+at.h <= p.height-2
			for i, t := range taken {
				free = free && (i == own || !at.overlaps(t))
			}
			if free {
				return at
			}
		}
	}
	return first
}
