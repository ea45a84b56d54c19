// Package waterfall draws a trace: a row per span, below its parent, with its bar on the common clock.
package waterfall

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/tracefile"
)

// row is a span with its place in the tree, or several like it that are too short to be looked at one by one.
type row struct {
	tracefile.Span // the first one
	more           []tracefile.Span
	depth          int
}

const (
	mostRows  = 500 // bounds the height of a drawing
	mostAlike = 2   // siblings of one name that get a row each, however short they are
	foldBelow = 20  // siblings of one name are folded into a row when they take less than this part of the trace
)

// tree are the spans of one trace by their parents.
type tree struct {
	children map[string][]tracefile.Span
	seen     map[string]bool
	long     time.Duration // what is not folded
	rows     []row
}

// rowsOf orders the spans of one trace as a tree, children by their start. A span whose parent is not there, since its
// process wrote elsewhere, is a root.
func rowsOf(spans []tracefile.Span) []row {
	t := tree{children: map[string][]tracefile.Span{}, seen: map[string]bool{}}
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	for _, s := range spans {
		parent := s.Parent
		if !known[parent] || parent == s.ID {
			parent = ""
		}
		t.children[parent] = append(t.children[parent], s)
	}
	from, to := extent(spans)
	t.long = to.Sub(from) / foldBelow
	t.walk([]string{""}, 0)
	return t.rows
}

// walk adds the rows below some parents, which are one row themselves.
func (t *tree) walk(parents []string, depth int) {
	var all []tracefile.Span
	for _, p := range parents {
		for _, s := range t.children[p] {
			if !t.seen[s.ID] { // a file may hold anything
				t.seen[s.ID] = true
				all = append(all, s)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b tracefile.Span) int { return a.Start.Compare(b.Start) })
	alike := map[string][]tracefile.Span{}
	for _, s := range all {
		alike[kin(s)] = append(alike[kin(s)], s)
	}
	for _, s := range all {
		group := alike[kin(s)]
		if len(group) <= mostAlike || total(group) >= t.long {
			group = []tracefile.Span{s}
		} else if group[0].ID != s.ID {
			continue
		}
		var ids []string
		for _, member := range group {
			ids = append(ids, member.ID)
		}
		t.rows = append(t.rows, row{group[0], group[1:], depth})
		t.walk(ids, depth+1)
	}
}

// kin is what spans have in common that may share a row.
func kin(s tracefile.Span) string { return fmt.Sprint(s.Name, s.Kind, s.Process, s.Failed) }

func total(spans []tracefile.Span) (sum time.Duration) {
	for _, s := range spans {
		sum += s.End.Sub(s.Start)
	}
	return sum
}

// apart numbers the processes of one name, where there are several.
func apart(spans []tracefile.Span) []tracefile.Span {
	instances := map[string][]string{}
	for _, s := range spans {
		if !slices.Contains(instances[s.Process], s.Instance) {
			instances[s.Process] = append(instances[s.Process], s.Instance)
		}
	}
	spans = slices.Clone(spans)
	for i, s := range spans {
		if list := instances[s.Process]; len(list) > 1 {
			spans[i].Process = fmt.Sprintf("%s %d", s.Process, 1+slices.Index(list, s.Instance))
		}
	}
	return spans
}

// label is what a row says: the span's name, and what tells it from its neighbours.
func (r row) label() string {
	name := r.Name
	if i := strings.LastIndex(name, "/"); i > 0 { // package.Service/Method
		service := name[:i]
		name = service[strings.LastIndex(service, ".")+1:] + name[i:]
	}
	switch r.Kind {
	case 2:
		name = "← " + name
	case 3:
		name = "→ " + name
	}
	if len(r.more) > 0 {
		return fmt.Sprintf("%s · %d of them", name, 1+len(r.more))
	}
	for _, part := range []struct{ key, format string }{
		{"dreamood.shard", "%s"}, {"dreamood.attempt", "attempt %s"}, {"dreamood.outcome", "%s"}, {"dreamood.count", "×%s"},
	} {
		if v := r.Attributes[part.key]; v != "" {
			name += " · " + fmt.Sprintf(part.format, v)
		}
	}
	return strings.Replace(name, "shard · ", "shard ", 1)
}

// extent is when the first span begins and the last one ends.
func extent(spans []tracefile.Span) (from, to time.Time) {
	from, to = spans[0].Start, spans[0].End
	for _, s := range spans {
		if s.Start.Before(from) {
			from = s.Start
		}
		if s.End.After(to) {
			to = s.End
		}
	}
	return from, to
}

// step is the distance of the lines of a time axis that has about eight of them.
func step(whole time.Duration) time.Duration {
	for unit := time.Microsecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if whole/(n*unit) <= 8 {
				return n * unit
			}
		}
	}
}

// span is a duration with three digits.
func span(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g µs", float64(d)/1e3)
}
