package runs

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxAges and maxProbes bound the questions of one look, beside the list of lanes: for the age of a lane's next
	// shard, and for shards that come again.
	maxAges   = 16
	maxProbes = 8
	// A shard that is said to come again is looked for so often, at growing distances.
	maxTries = 6
	firstTry = 10 * time.Millisecond
	// sureWait bounds the wait for a shard that should be there; usually another worker was faster.
	sureWait = 50 * time.Millisecond
	// idlePolls is how many times Config.Poll passes between two looks at an empty queue.
	idlePolls = 5
	// costlyPolls is how many at most, however long a look takes.
	costlyPolls = 15
)

// look reads the board anew where that is due. Of several that want to, one does and the others wait for it.
func (b *board) look(ctx context.Context) error {
	if !b.due() {
		return nil
	}
	b.reading.Lock()
	defer b.reading.Unlock()
	if !b.due() {
		return nil
	}
	b.mu.Lock()
	b.stale = false // calls from now on are for the next look
	b.mu.Unlock()
	begun := time.Now()
	list, err := b.q.lanes(ctx)
	if err != nil {
		b.mu.Lock()
		b.stale = true
		b.mu.Unlock()
		return err
	}
	b.merge(list, begun)
	for _, s := range b.unaged() {
		b.age(ctx, s)
	}
	b.mu.Lock()
	b.cost = time.Since(begun)
	b.mu.Unlock()
	return nil
}

func (b *board) due() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read.IsZero() || time.Since(b.read) >= b.keep()
}

// merge takes over what the server said.
func (b *board) merge(list []laneInfo, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = now
	seats := make(map[string]*seat, len(list))
	for _, info := range list {
		s := b.seats[info.Name]
		if s == nil {
			s = &seat{filter: b.q.filter(info.lane), tries: maxTries, standing: standing{name: info.Name, class: info.class, owner: info.key}}
		}
		seats[s.name] = s
		b.skew = time.Until(info.TimeStamp)
		s.waiting, s.inFlight = int64(info.NumPending), int64(info.NumAckPending)
		s.position = info.Delivered.Stream
		if last := info.Delivered.Last; last != nil && last.After(s.served) {
			s.served = *last
		}
		if s.oldest.IsZero() {
			s.oldest = info.TimeStamp
		}
	}
	b.seats = seats
	b.probe(now)
}

// probe has lanes tried that hold no new shards but some in other hands: one of those may come again, because its
// worker died or gave it back unheard. A few at each look, in turns.
func (b *board) probe(now time.Time) {
	var others []*seat
	for _, s := range b.seats {
		if s.waiting == 0 && s.inFlight > s.held && s.again.IsZero() {
			others = append(others, s)
		}
	}
	slices.SortFunc(others, func(x, y *seat) int { return cmp.Compare(x.name, y.name) })
	for i := range min(maxProbes, len(others)) {
		s := others[(b.round+i)%len(others)]
		s.again, s.tries = now, maxTries // once, until the next look
	}
	b.round += maxProbes
}

// unaged returns the lanes whose next shard's age is worth a question: there is a choice, and the lane has moved since
// it was asked for the last time.
func (b *board) unaged() []*seat {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := 0
	var moved []*seat
	for _, s := range b.seats {
		if s.waiting == 0 {
			continue
		}
		if waiting++; s.aged != s.position+1 {
			moved = append(moved, s)
		}
	}
	if waiting < 2 {
		return nil
	}
	slices.SortFunc(moved, func(x, y *seat) int { return cmp.Compare(x.aged, y.aged) }) // the longest ago first
	return moved[:min(maxAges, len(moved))]
}

// age asks when the next shard of a lane was queued. Without an answer the last one stands: no shard of a lane is older
// than the one before it.
func (b *board) age(ctx context.Context, s *seat) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	msg, err := b.q.stream.GetMsg(ctx, s.position+1, jetstream.WithGetMsgSubject(s.filter))
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.oldest, s.aged = msg.Time, s.position+1
}
