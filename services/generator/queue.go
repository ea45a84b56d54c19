package generator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/dreamood/dreamood/internal/fault"
)

// queue admits the calls that render at once, as long as few enough pictures wait, and lets their batches into the
// engine in turn: a call of many pictures comes again behind the others after every batch.
type queue struct {
	limits Limits
	turns  *semaphore.Weighted // pictures that the engine works on; first come, first served

	mu       sync.Mutex
	calls    int                // admitted
	pictures int                // admitted and not rendered, but for calls that wait for their clients
	work     map[string]float64 // of those pictures, in evaluations of the U-Net, by model
	rates    map[string]*rate   // by model; models that run together slow each other down, and estimates err upwards
	promises []promise          // to those that were refused, by time
}

// promise is what a client was told: that there will be room for its pictures then.
type promise struct {
	at       time.Time
	pictures int
}

// promised bounds the pictures that are promised room, in queues: clients that do not wait are not believed for ever.
const promised = 8

func newQueue(l Limits) *queue {
	return &queue{limits: l, turns: semaphore.NewWeighted(int64(l.Engine)), work: map[string]float64{}, rates: map[string]*rate{}}
}

// ticket is a call that was admitted. Its methods are called by one goroutine.
type ticket struct {
	q        *queue
	model    string
	each     float64 // evaluations of the U-Net for one picture
	pictures int     // that count
	parked   bool
	left     int // pictures not rendered
}

// tooLate is by how much the estimated time to a first picture must exceed the time left until a call is refused: an
// estimate may err, and pictures that come before the deadline are of use.
const tooLate = 2

// unmeasured is what a client is told to wait as long as no speed is known.
const unmeasured = time.Second

// admit takes in a call of n pictures of a model that come in batches, each picture being so many evaluations of the U-Net.
// RESOURCE_EXHAUSTED says when there may be room; DEADLINE_EXCEEDED that the measured speed leaves no hope of even the
// first picture.
func (q *queue) admit(ctx context.Context, model string, n, batch int, each float64) (*ticket, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	over, full := q.pictures+n-q.limits.Waiting, ""
	switch {
	case q.calls >= q.limits.Calls:
		full = fmt.Sprintf("%d calls are being rendered, as many as this server takes (--max-calls)", q.calls)
		over = max(over, q.pictures/q.calls, 1)
	case over > 0:
		full = fmt.Sprintf("%d pictures wait and %d are asked for; this server lets at most %d wait (--max-waiting)", q.pictures, n, q.limits.Waiting)
	}
	if full != "" {
		return nil, &fault.Error{Reason: fault.ResourceExhausted, RetryAfter: q.promise(time.Now(), over, n), Message: full + "; " + q.speed(model)}
	}
	if deadline, ok := ctx.Deadline(); ok {
		ahead, known := q.ahead()
		first, measured := q.rate(model).time(each * float64(min(n, batch)))
		first, known = first+ahead, known && measured
		if left := time.Until(deadline); known && first > tooLate*left {
			return nil, fault.New(fault.DeadlineExceeded, "the first picture would take about %s (%d pictures wait; %s), the deadline is in %s; nothing was rendered",
				first.Round(10*time.Millisecond), q.pictures, q.speed(model), left.Round(10*time.Millisecond))
		}
	}
	t := &ticket{q: q, model: model, each: each, left: n}
	q.calls++
	t.count(n)
	return t, nil
}

// promise estimates when there will be room for n pictures, once so many of those that wait are rendered, and those to
// whom room was promised before: so clients that come together do not come back together.
func (q *queue) promise(now time.Time, over, n int) time.Duration {
	q.promises = slices.DeleteFunc(q.promises, func(p promise) bool { return p.at.Before(now) })
	for _, p := range q.promises {
		over += p.pictures
	}
	over = min(over, promised*q.limits.Waiting)
	wait := unmeasured
	if q.pictures > 0 { // else all calls wait for their clients
		if d, known := q.ahead(); known {
			wait = max(time.Duration(float64(d)*float64(over)/float64(q.pictures)), time.Millisecond)
		}
	}
	if over < promised*q.limits.Waiting {
		q.promises = append(q.promises, promise{now.Add(wait), n})
	}
	return wait
}

// rate is that of a model.
func (q *queue) rate(model string) *rate {
	if q.rates[model] == nil {
		q.rates[model] = &rate{}
	}
	return q.rates[model]
}

// ahead estimates how long all that waits takes, if the speed of every model in it is known.
func (q *queue) ahead() (whole time.Duration, known bool) {
	for model, work := range q.work {
		d, known := q.rate(model).time(work)
		if !known {
			return 0, false
		}
		whole += d
	}
	return whole, true
}

func (q *queue) speed(model string) string {
	one, known := q.rate(model).time(1)
	if !known {
		return "no speed is measured yet"
	}
	return fmt.Sprintf("%.3g evaluations of the U-Net a second, measured", 1/one.Seconds())
}

// count makes n pictures of the call count; q.mu is held.
func (t *ticket) count(n int) {
	t.q.pictures += n - t.pictures
	t.q.work[t.model] += float64(n-t.pictures) * t.each
	t.pictures = n
	if t.q.work[t.model] <= 0 { // whole numbers: no rest of rounding
		delete(t.q.work, t.model)
	}
}

// turn waits for room in the engine for a batch of n pictures; done is called when it is rendered, or was not.
func (t *ticket) turn(ctx context.Context, n int) (done func(rendered bool), err error) {
	weight := int64(min(n, t.q.limits.Engine))
	if err := t.q.turns.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	t.q.mu.Lock()
	t.q.rate(t.model).begin(time.Now())
	t.q.mu.Unlock()
	return func(rendered bool) {
		t.q.turns.Release(weight)
		t.q.mu.Lock()
		defer t.q.mu.Unlock()
		if !rendered {
			t.q.rate(t.model).end(time.Now(), 0)
			return
		}
		t.q.rate(t.model).end(time.Now(), float64(n)*t.each)
		t.left -= n
		if !t.parked {
			t.count(t.left)
		}
	}, nil
}

// park says whether the call waits for its client: what it has to render holds up nobody then, and does not count.
func (t *ticket) park(waits bool) {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	t.parked = waits
	if waits {
		t.count(0)
	} else {
		t.count(t.left)
	}
}

// leave ends the call.
func (t *ticket) leave() {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	t.count(0)
	t.q.calls--
}

// rate is a measured speed: the work done in the time in which anything was worked on, older times fading.
type rate struct {
	under int // batches under way
	since time.Time
	busy  time.Duration
	done  float64
}

// fade is the busy time after which older measurements count half.
const fade = 30 * time.Second

func (r *rate) begin(now time.Time) {
	if r.under == 0 {
		r.since = now
	}
	r.under++
}

// end is that of a batch; work is 0 where it was given up, and then its time counts for nothing.
func (r *rate) end(now time.Time, work float64) {
	r.under--
	if work > 0 {
		r.busy += now.Sub(r.since)
		r.done += work
		r.since = now
	}
	if r.busy > fade {
		r.busy, r.done = r.busy/2, r.done/2
	}
}

// time estimates how long work takes, if anything was measured.
func (r *rate) time(work float64) (time.Duration, bool) {
	if r.done == 0 {
		return 0, false
	}
	return time.Duration(float64(r.busy) * work / r.done), true
}

// Live is how many calls of RenderOutliers are under way, and their pictures that wait; see queue.
func (s *Service) Live() (calls, pictures int) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.calls, s.queue.pictures
}
