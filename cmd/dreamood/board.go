package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// mostBars is how many bars stand on a terminal at the same time; the rest is counted.
const mostBars = 12

// board is the bars of several runs, one below the other, on a terminal. It is not safe for concurrent use.
type board struct {
	w     io.Writer
	width func() int
	quiet bool
	rows  []*progress
	drawn int // lines that stand on the terminal
}

// board makes so many lines of progress that stand together.
func (s *Session) board(rows int) []*progress {
	return newBoard(s.Err, func() int { return columns(s.Err) }, time.Now, s.Quiet, rows).rows
}

func newBoard(w io.Writer, width func() int, now func() time.Time, quiet bool, rows int) *board {
	b := &board{w: w, width: width, quiet: quiet}
	for range rows {
		b.rows = append(b.rows, &progress{w: w, width: width, now: now, quiet: quiet, board: b})
	}
	return b
}

// clear takes the bars away and leaves the cursor where the first one stood.
func (b *board) clear() {
	if b.drawn > 0 {
		io.WriteString(b.w, "\r"+strings.Repeat("\x1b[1A", b.drawn-1)+"\x1b[J")
		b.drawn = 0
	}
}

// draw shows the bars of the runs that are under way in place of those that stand there.
func (b *board) draw() {
	width := b.width()
	if b.quiet || width == 0 {
		return
	}
	var lines []string
	open := 0
	for _, row := range b.rows {
		if !row.any {
			continue
		}
		if open++; open <= mostBars {
			lines = append(lines, fit(row.bar(width), width-1))
		}
	}
	if open > mostBars {
		lines = append(lines, fit(fmt.Sprintf("and %d more", open-mostBars), width-1))
	}
	b.clear()
	io.WriteString(b.w, strings.Join(lines, "\n"))
	b.drawn = len(lines)
}
