package generator

import (
	"errors"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
)

// What waits is estimated by each model's own speed, promises add up, and nothing is left when all calls have gone.
func TestQueueEstimatesByModel(t *testing.T) {
	q := newQueue(Limits{Pictures: 10, Waiting: 20}.withDefaults())
	q.rates["fast"] = &rate{busy: time.Second, done: 1000}
	q.rates["slow"] = &rate{busy: time.Second, done: 10}
	a, err := q.admit(t.Context(), "fast", 10, 10, 100) // 1 s
	if err != nil {
		t.Fatal(err)
	}
	b, err := q.admit(t.Context(), "slow", 10, 10, 2) // 2 s
	if err != nil {
		t.Fatal(err)
	}
	if all, known := q.ahead(); !known || all != 3*time.Second {
		t.Errorf("what waits takes %s (known: %v), want 3s", all, known)
	}
	for i, want := range []time.Duration{1500 * time.Millisecond, 3 * time.Second, 4500 * time.Millisecond} {
		_, err := q.admit(t.Context(), "fast", 10, 10, 100)
		var f *fault.Error
		if !errors.As(err, &f) || f.Reason != fault.ResourceExhausted || f.RetryAfter != want {
			t.Errorf("refusal %d: %v, again in %s; want %s", i, err, f.RetryAfter, want)
		}
	}
	b.park(true) // its client does not read: it is in nobody's way
	if all, _ := q.ahead(); all != time.Second || q.pictures != 10 {
		t.Errorf("beside a parked call %d pictures wait, %s", q.pictures, all)
	}
	done, err := b.turn(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	done(true)
	b.park(false)
	if q.pictures != 16 || q.work["slow"] != 12 {
		t.Errorf("after 4 of its pictures %d wait, %g evaluations of the slow model", q.pictures, q.work["slow"])
	}
	a.leave()
	b.leave()
	if q.pictures != 0 || q.calls != 0 || len(q.work) != 0 {
		t.Errorf("after all have gone: %d pictures, %d calls, work %v", q.pictures, q.calls, q.work)
	}
}

// The speed is that of the time in which anything was worked on: together, not one after another; given-up work counts
// for nothing.
func TestRateCountsBusyTimeOnce(t *testing.T) {
	var r rate
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	r.begin(at(0))
	r.begin(at(0))
	r.end(at(10), 50)
	r.end(at(10), 50)
	r.begin(at(100))
	r.end(at(110), 0)
	if d, known := r.time(10); !known || d != time.Second {
		t.Errorf("10 evaluations take %s (known: %v), want 1s", d, known)
	}
}
