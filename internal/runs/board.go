package runs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// board is what the workers of one call of Serve know about the lanes of their queue. They choose by it, and correct it
// by what they take and return; now and then, and after a wake-up, one of them reads it anew.
type board struct {
	q *queue

	reading sync.Mutex // held while the lanes are listed

	mu    sync.Mutex
	seats map[string]*seat // by the lane's name
	read  time.Time        // when the lanes were listed; zero at first
	cost  time.Duration    // how long that took
	skew  time.Duration    // the server's clock minus ours
	stale bool             // somebody called since
	bell  chan struct{}    // closed by the next call
	round int              // where the probes go on
}

// seat is one lane on the board.
type seat struct {
	standing
	filter   string
	consumer jetstream.Consumer // nil before the first pull
	position uint64             // in the stream, of the last delivery when it was listed
	aged     uint64             // the position for which oldest was asked
	held     int64              // shards in the hands of this board's workers
	calls    int                // for new shards
	missing  int64              // shards that the server has but does not count
	again    time.Time          // when shards may come again; zero when nothing says so
	tries    int                // how often nothing came then
}

// catch is a message and the lane it came from.
type catch struct {
	jetstream.Msg
	seat *seat
}

func newBoard(q *queue) *board {
	return &board{q: q, seats: map[string]*seat{}, bell: make(chan struct{})}
}

// take pulls one message from the first lane that has one, in the order of the policy; nil when none has. It does not
// end in the middle of a pull: a message that arrived after its asker had gone would be nobody's until its lease runs out.
func (b *board) take(ctx context.Context) (*catch, error) {
	for {
		if err := b.look(ctx); err != nil {
			return nil, err
		}
		seat, sure := b.reserve()
		if seat == nil {
			return nil, nil
		}
		msg, err := b.pull(ctx, seat, sure)
		if msg != nil {
			return &catch{msg, seat}, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// reserve chooses a lane and counts the shard that is going to be pulled from it. sure says that there should be one.
func (b *board) reserve() (s *seat, sure bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var seats []*seat
	var lanes []standing
	for _, s := range b.seats {
		l := s.standing
		if l.waiting == 0 && (s.missing > 0 || !s.again.IsZero() && !s.again.After(now)) {
			l.waiting = 1
		}
		seats, lanes = append(seats, s), append(lanes, l)
	}
	i := next(lanes, now.Add(b.skew))
	if i < 0 {
		return nil, false
	}
	s = seats[i]
	switch sure = s.waiting > 0 || s.missing > 0; {
	case s.waiting > 0:
		s.waiting--
	case s.missing > 0:
		s.missing--
	default:
		s.again = time.Time{}
	}
	s.inFlight++
	s.held++
	s.served = now.Add(b.skew)
	return s, sure
}

// pull asks a lane for a message: nil when it has none.
func (b *board) pull(ctx context.Context, s *seat, sure bool) (jetstream.Msg, error) {
	b.mu.Lock()
	calls := s.calls
	b.mu.Unlock()
	msg, err := b.fetch(ctx, s, sure)
	b.mu.Lock()
	defer b.mu.Unlock()
	if msg != nil {
		if meta, err := msg.Metadata(); err == nil && meta.Timestamp.After(s.oldest) {
			s.oldest = meta.Timestamp // the next one is at least as new
		}
		return msg, nil
	}
	s.held--
	s.inFlight = max(s.inFlight-1, 0)
	if s.tries++; s.tries <= maxTries && s.again.IsZero() { // the server's timers are not exact
		s.again = time.Now().Add(firstTry << s.tries)
	}
	if s.calls == calls { // what was called for meanwhile may have come after the answer
		s.waiting, s.missing = 0, 0
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound):
		delete(b.seats, s.name) // an empty lane, removed since; or the next look says what is wrong
		b.stale = true
		return nil, nil
	}
	return nil, err
}

// fetch does not wait for a message, but where there should be one for a moment: what was just published is not yet seen
// by all of the server.
func (b *board) fetch(ctx context.Context, s *seat, sure bool) (jetstream.Msg, error) {
	b.mu.Lock()
	consumer := s.consumer
	b.mu.Unlock()
	if consumer == nil {
		ask, cancel := context.WithTimeout(ctx, askWait)
		defer cancel()
		var err error
		if consumer, err = b.q.stream.Consumer(ask, s.name); err != nil {
			return nil, err
		}
		b.mu.Lock()
		s.consumer = consumer
		b.mu.Unlock()
	}
	batch, err := jetstream.MessageBatch(nil), error(nil)
	if sure {
		batch, err = consumer.Fetch(1, jetstream.FetchMaxWait(sureWait))
	} else {
		batch, err = consumer.FetchNoWait(1)
	}
	if err != nil {
		return nil, err
	}
	if msg := <-batch.Messages(); msg != nil {
		return msg, nil
	}
	return nil, batch.Error()
}

// done says that the shard of a message is no longer in this worker's hands.
func (b *board) done(c *catch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.seat.held--
	c.seat.inFlight = max(c.seat.inFlight-1, 0)
}

// hear notes a call and wakes whoever rests.
func (b *board) hear(c call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, now := b.seats[c.Lane], time.Now()
	switch again := now.Add(time.Duration(max(c.After, 0)) * time.Millisecond); {
	case s == nil:
		b.stale = true
	case c.New > 0:
		if s.waiting == 0 {
			s.oldest = now.Add(b.skew)
		}
		s.waiting += c.New
		s.calls++
	case c.Uncounted > 0:
		s.missing = c.Uncounted
	default:
		s.tries = 0
		if s.again.IsZero() || again.Before(s.again) {
			s.again = again
		}
	}
	close(b.bell)
	b.bell = make(chan struct{})
}

// called returns the channel that the next call closes.
func (b *board) called() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bell
}

// rest waits for a call, the time of the next look, a shard that comes again, or the end of ctx.
func (b *board) rest(ctx context.Context, called <-chan struct{}) {
	timer := time.NewTimer(b.pause())
	defer timer.Stop()
	select {
	case <-called:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pause is how long nothing is to be expected without a call.
func (b *board) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := time.Until(b.read.Add(b.keep()))
	for _, s := range b.seats {
		if !s.again.IsZero() {
			wait = min(wait, time.Until(s.again))
		}
	}
	return max(wait, time.Millisecond)
}

// keep is for how long the board is good. What a look costs bounds how often it is done, up to a limit: however long it
// takes, a call is followed by a look soon, and a shard that nobody calls for is found.
func (b *board) keep() time.Duration {
	poll := b.q.s.cfg.Poll
	if b.stale {
		return min(max(5*b.cost, 10*time.Millisecond), idlePolls*poll)
	}
	rest := idlePolls * poll
	for _, s := range b.seats {
		if s.waiting > 0 || s.inFlight > 0 {
			rest = poll
		}
	}
	return max(rest, min(20*b.cost, costlyPolls*poll))
}
