package main

import "time"

const (
	meterWindow = 30 * time.Second // rate over this much of the recent past
	meterSettle = time.Second      // after a start, what comes in at once is history, not speed
	meterTrust  = 2 * time.Second  // shortest stretch that a rate is told from
)

// meter measures how fast a count grows and how long the rest will take. It knows only what it has seen itself:
// the past of a run that is watched late says nothing about its speed now.
type meter struct {
	unit    string
	total   int64
	began   time.Time
	samples []sample
}

type sample struct {
	at   time.Time
	done int64
}

// restart forgets what was measured, for a new stretch of work or a new connection.
func (m *meter) restart(now time.Time) { m.began, m.samples = now, nil }

// add notes that done of total units were done at now. A new unit or total, or a count that falls, is new work.
func (m *meter) add(now time.Time, done, total int64, unit string) {
	last := len(m.samples) - 1
	if m.began.IsZero() || unit != m.unit || total != m.total || last >= 0 && done < m.samples[last].done {
		m.unit, m.total = unit, total
		m.restart(now)
	}
	if now.Sub(m.began) < meterSettle {
		m.samples = m.samples[:0]
	}
	m.samples = append(m.samples, sample{now, done})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
}

// rate is the number of units per second; false while too little has been seen. It falls while nothing comes in.
func (m *meter) rate(now time.Time) (float64, bool) {
	if len(m.samples) < 2 {
		return 0, false
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	took := now.Sub(first.at)
	if took < meterTrust || last.done <= first.done {
		return 0, false
	}
	return float64(last.done-first.done) / took.Seconds(), true
}

// left is the time until all is done at the present rate; false where nobody can say.
func (m *meter) left(now time.Time) (time.Duration, bool) {
	rate, ok := m.rate(now)
	if !ok || m.total <= 0 {
		return 0, false
	}
	rest := m.total - m.samples[len(m.samples)-1].done
	seconds := float64(max(rest, 0)) / rate
	if seconds > 30*24*3600 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}
