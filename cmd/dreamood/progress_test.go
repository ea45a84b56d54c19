package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) move(d time.Duration) { c.at = c.at.Add(d) }
func newClock() *clock                { return &clock{time.Unix(1000, 0)} }
func fixed(width int) func() int      { return func() int { return width } }
func at(done, total int64) standing {
	return standing{what: "w", done: done, total: total, unit: "pictures"}
}
func shown(w *bytes.Buffer) []string { return strings.Split(strings.TrimSpace(w.String()), "\n") }

func TestMeterTellsTheTimeLeftFromWhatItSaw(t *testing.T) {
	var m meter
	c := newClock()
	for done := range int64(90) { // the history of a run that is watched late
		m.add(c.now(), done, 1000, "pictures")
	}
	if _, ok := m.left(c.now()); ok {
		t.Fatal("told a time left from history alone")
	}
	for i := range int64(10) {
		c.move(time.Second)
		m.add(c.now(), 92+2*i, 1000, "pictures")
	}
	rate, ok := m.rate(c.now())
	if !ok || rate < 1.9 || rate > 2.4 {
		t.Fatalf("rate %v, %v; want about 2 a second", rate, ok)
	}
	if left, ok := m.left(c.now()); !ok || left < 370*time.Second || left > 500*time.Second {
		t.Fatalf("left %v, want about 445 s", left)
	}
	c.move(time.Minute) // nothing comes in: the rate falls, the time left grows
	if slow, _ := m.rate(c.now()); slow > rate/4 {
		t.Fatalf("rate %v after a minute of silence", slow)
	}
	m.add(c.now(), 0, 50, "steps")
	if _, ok := m.rate(c.now()); ok {
		t.Fatal("told the rate of new work from old work")
	}
}

func TestMeterForgetsTheDistantPast(t *testing.T) {
	var m meter
	c := newClock()
	for done := range int64(600) {
		m.add(c.now(), done, 10000, "steps")
		c.move(100 * time.Millisecond)
	}
	for range 60 { // now ten times slower
		c.move(time.Second)
		m.add(c.now(), m.samples[len(m.samples)-1].done+1, 10000, "steps")
	}
	if rate, _ := m.rate(c.now()); rate > 1.2 {
		t.Fatalf("rate %v, want about 1", rate)
	}
}

func TestPlainLinesComeAtMostEveryFiveSeconds(t *testing.T) {
	var w bytes.Buffer
	c := newClock()
	p := &progress{w: &w, width: fixed(0), now: c.now}
	p.show(standing{what: "w", waiting: true})
	for i := range int64(20) {
		c.move(time.Second)
		p.show(at(i, 20))
		p.tick()
	}
	p.show(at(20, 20))
	p.close()
	lines := shown(&w)
	if len(lines) != 6 || lines[0] != "w: waiting for a worker" || !strings.HasPrefix(lines[5], "w: 20/20 pictures") {
		t.Fatalf("%d lines:\n%s", len(lines), w.String())
	}
}

func TestBarFitsTheTerminalAndCannotBeDriven(t *testing.T) {
	for _, width := range []int{1, 10, 40, 80, 200} {
		var w bytes.Buffer
		c := newClock()
		p := &progress{w: &w, width: fixed(width), now: c.now}
		st := at(7, 3) // more done than there is
		st.message = "evil \x1b[2J\r\nmessage " + strings.Repeat("long ", 40)
		p.show(st)
		line := strings.TrimSuffix(strings.TrimPrefix(w.String(), "\r"), "\x1b[K")
		if len([]rune(line)) >= width || strings.ContainsAny(line, "\x1b\r\n") {
			t.Errorf("width %d: %q", width, line)
		}
		p.close()
		if !strings.HasSuffix(w.String(), "\r\x1b[K") {
			t.Errorf("width %d: the bar stays: %q", width, w.String())
		}
	}
}

func TestQuietShowsNothing(t *testing.T) {
	var w bytes.Buffer
	p := &progress{w: &w, width: fixed(80), now: time.Now, quiet: true}
	p.show(at(1, 2))
	p.note("x")
	p.close()
	if w.Len() > 0 {
		t.Fatalf("%q", w.String())
	}
}
