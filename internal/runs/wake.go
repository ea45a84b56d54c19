package runs

import (
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
