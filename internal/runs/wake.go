package runs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// call is what a wake-up says. It goes over core NATS, "<name>.wake.<kind>", to all workers of a kind, and may be lost:
// workers also look by themselves, every Config.Poll.
type call struct {
	Lane  string `json:"lane,omitempty"`     // empty: look at all of them
	New   int64  `json:"new,omitempty"`      // so many new shards; 0: one comes again
	After int64  `json:"after_ms,omitempty"` // so much later

	Uncounted int64 `json:"uncounted,omitempty"` // so many shards of the lane are not in the server's counts: see adopt
}

func (s *Service) wakeSubject(kind string) string { return s.cfg.Name + ".wake." + kind }

// wake calls the workers of a kind.
func (s *Service) wake(kind string, c call) {
	data, err := json.Marshal(c)
	if err == nil {
		err = s.js.Conn().Publish(s.wakeSubject(kind), data)
	}
	if err != nil { // they look by themselves
		s.log.Debug("wake the workers", zap.String("kind", kind), zap.Error(err))
	}
}

// caller makes the lane of a run where it is missing and wakes the workers while its shards are published: after the
// first, so that work begins at once, then whenever there are twice as many, and after the last. The lane is looked at
// again after the last one, because it may be removed in the meantime: whoever comes last, the remover or the publisher,
// sees what the other did.
type caller struct {
	q     *queue
	run   *Run
	count int // published
	told  int // of these, called for
}

// published is to be called after each shard.
func (c *caller) published(ctx context.Context) {
	if c.count++; c.count < 2*c.told {
		return
	}
	if c.told > 0 || c.q.makeLane(ctx, c.run.lane(), c.run.Owner) == nil { // otherwise done tries again
		c.wake()
	}
}

// done is to be called after the last shard.
func (c *caller) done(ctx context.Context) error {
	if c.count == 0 || c.count == 1 && c.told == 1 { // no lane, or made after the last
		return nil
	}
	if err := c.q.makeLane(ctx, c.run.lane(), c.run.Owner); err != nil {
		return err
	}
	c.wake()
	return nil
}

func (c *caller) wake() {
	if c.count > c.told {
		c.q.s.wake(c.q.kind, call{Lane: c.run.lane().name(), New: int64(c.count - c.told)})
		c.told = c.count
	}
}

// wakeAgain says that the message of a subject will be delivered again after a while.
func (s *Service) wakeAgain(subject string, after time.Duration) {
	if kind, l, ok := s.laneOf(subject); ok {
		s.wake(kind, call{Lane: l.name(), After: after.Milliseconds()})
	}
}

// listen hands the calls for a board to it until the returned stop.
func (b *board) listen() (stop func(), err error) {
	sub, err := b.q.s.js.Conn().Subscribe(b.q.s.wakeSubject(b.q.kind), func(msg *nats.Msg) {
		var c call
		_ = json.Unmarshal(msg.Data, &c) // whatever it says, somebody called
		b.hear(c)
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil // nothing to do about a connection that is gone
}
