package main

import "io"

// owned is a table of things that may have owners: a column OWNER comes last, where one of them has one.
type owned struct {
	rows [][]any
	some bool
}

func (o *owned) head(cells ...any) { o.rows = append(o.rows, append(cells, "OWNER")) }

func (o *owned) row(owner string, cells ...any) {
	o.some = o.some || owner != ""
	o.rows = append(o.rows, append(cells, or(owner, "-")))
}

func (o *owned) print(w io.Writer) {
	var t table
	for _, row := range o.rows {
		if !o.some {
			row = row[:len(row)-1]
		}
		t.row(row...)
	}
	t.print(w)
}
