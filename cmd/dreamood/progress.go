package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// linesEvery is the shortest time between two lines of progress where there is no terminal.
const linesEvery = 5 * time.Second

// standing is how far a piece of work is.
type standing struct {
	what    string // "render-set sets/demo"
	waiting bool   // not begun yet
	done    int64
	total   int64 // 0: not known
	unit    string
	message string // what happens now
}

// progress shows how far a piece of work is: as one line that changes on a terminal, as a line now and then
// elsewhere, not at all when quiet. It is not safe for concurrent use.
type progress struct {
	w       io.Writer
	width   func() int // of the terminal; 0 for none
	now     func() time.Time
	quiet   bool
	meter   meter
	last    standing
	any     bool
	drawn   bool      // a bar stands on the line
	printed time.Time // of the last plain line
	text    string    // of it
	board   *board    // of the lines that it stands among; nil when it is alone
}

func (s *Session) progress() *progress {
	return &progress{w: s.Err, width: func() int { return columns(s.Err) }, now: time.Now, quiet: s.Quiet}
}

// show takes note of where the work stands and shows it.
func (p *progress) show(st standing) {
	p.any, p.last = true, st
	if !st.waiting {
		p.meter.add(p.now(), st.done, st.total, st.unit)
	}
	p.draw(false)
}

// tick shows the same again, with the time that has passed.
func (p *progress) tick() { p.draw(false) }

// note prints a line for people above the bar.
func (p *progress) note(format string, args ...any) {
	if p.quiet {
		return
	}
	p.print(func() { fmt.Fprintf(p.w, "dreamood: "+format+"\n", cleaned(args)...) })
}

// print lets something be printed above the bar.
func (p *progress) print(something func()) {
	p.clear()
	something()
	p.draw(false)
}

// close takes the bar away, or prints the last plain line where it has something new.
func (p *progress) close() {
	if p.clear(); !p.quiet && p.any && p.width() == 0 && !p.last.waiting {
		p.draw(true)
	}
	p.any = false
	if p.board != nil {
		p.draw(false)
	}
}

func (p *progress) clear() {
	if p.board != nil {
		p.board.clear()
	}
	if p.drawn {
		io.WriteString(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

func (p *progress) draw(now bool) {
	if p.board != nil && p.width() > 0 {
		p.board.draw()
		return
	}
	if p.quiet || !p.any {
		return
	}
	if width := p.width(); width > 0 {
		io.WriteString(p.w, "\r"+fit(p.bar(width), width-1)+"\x1b[K")
		p.drawn = true
		return
	}
	text := p.last.what + ": " + p.state() // without the speed, which changes all the time
	if text == p.text || !now && p.now().Sub(p.printed) < linesEvery {
		return
	}
	p.printed, p.text = p.now(), text
	fmt.Fprintln(p.w, clean(p.last.what+": "+p.count()+p.speed()+p.happening()))
}

// state is "12/50 pictures, rendering".
func (p *progress) state() string { return p.count() + p.happening() }

// count is "12/50 pictures".
func (p *progress) count() string {
	st := p.last
	if st.waiting {
		return or(st.message, "waiting for a worker")
	}
	count := fmt.Sprint(st.done)
	if st.total > 0 {
		count = fmt.Sprintf("%d/%d", st.done, st.total)
	}
	if st.unit != "" {
		count += " " + st.unit
	}
	return count
}

// happening is ", rendering".
func (p *progress) happening() string {
	if p.last.waiting || p.last.message == "" {
		return ""
	}
	return ", " + p.last.message
}

// speed is ", 4.1/s, 46 s left", as far as it is known.
func (p *progress) speed() string {
	now := p.now()
	rate, ok := p.meter.rate(now)
	if !ok || p.last.waiting || p.last.done == p.last.total {
		return ""
	}
	text := fmt.Sprintf(", %.3g/s", rate)
	if left, ok := p.meter.left(now); ok {
		text += ", " + span(left) + " left"
	}
	return text
}

func (p *progress) bar(width int) string {
	const longest = 30
	var bar string
	if cells := min(longest, width/4); p.last.total > 0 && cells > 4 {
		full := int(min(max(p.last.done, 0), p.last.total) * int64(cells) / p.last.total)
		bar = "[" + strings.Repeat("=", full) + strings.Repeat(" ", cells-full) + "] "
	}
	text := p.last.what + " " + bar + p.count() + p.speed() + p.happening()
	return strings.ReplaceAll(clean(text), "\n", " ")
}

// fit cuts text to a number of characters.
func fit(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width, 0)])
}
