package runs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// heardMost is how many events wait for a listener. One that is slower misses some, is told so, and reads them from the
// stream.
const heardMost = 256

// hub hears the new events of all runs by one consumer and hands them to the listeners of this process. The server
// allows 1,000 consumers per stream, and one costs it far more than a listener costs here.
type hub struct {
	s *Service

	turn    sync.Mutex         // to open, to close, to come and to go
	stop    context.CancelFunc // nil while nobody listens
	stopped chan struct{}

	mu   sync.Mutex
	ears map[string]map[*ear]bool // by run; "" hears nothing and keeps the consumer open
}

// ear listens to one run.
type ear struct {
	hub  *hub
	id   string
	rung chan struct{} // something was heard or missed

	mu     sync.Mutex
	heard  []Event
	missed bool
}

// listen hears every event that is stored after it has returned, and some from before. Close the ear.
func (h *hub) listen(ctx context.Context, id string) (*ear, error) {
	h.turn.Lock()
	defer h.turn.Unlock()
	if h.stop == nil {
		if err := h.open(ctx); err != nil {
			return nil, err
		}
	}
	e := &ear{hub: h, id: id, rung: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ears[id] == nil {
		h.ears[id] = map[*ear]bool{}
	}
	h.ears[id][e] = true
	return e, nil
}

// close ends listening. nil is fine.
func (e *ear) close() {
	if e == nil {
		return
	}
	h := e.hub
	h.turn.Lock()
	defer h.turn.Unlock()
	h.mu.Lock()
	if delete(h.ears[e.id], e); len(h.ears[e.id]) == 0 {
		delete(h.ears, e.id)
	}
	last := len(h.ears) == 0
	h.mu.Unlock()
	if last && h.stop != nil {
		h.stop()
		<-h.stopped
		h.stop = nil
	}
}

// open starts to hear from the newest event on.
func (h *hub) open(ctx context.Context) error {
	if !h.s.js.Conn().IsConnected() {
		return fmt.Errorf("listen to events: %w", nats.ErrDisconnected)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := h.s.events.Info(ctx)
	if err != nil {
		return fmt.Errorf("listen to events: %w", err)
	}
	messages, err := h.messages(ctx, info.State.LastSeq)
	if err != nil {
		return err
	}
	var hearing context.Context
	hearing, h.stop = context.WithCancel(context.Background())
	stopped := make(chan struct{})
	h.stopped = stopped
	go func() {
		defer close(stopped)
		h.hear(hearing, messages, info.State.LastSeq)
	}()
	return nil
}

// messages are the events after a sequence number.
func (h *hub) messages(ctx context.Context, after uint64) (jetstream.MessagesContext, error) {
	consumer, err := h.s.events.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("listen to events: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("listen to events: %w", err)
	}
	return messages, nil
}

// hear hands out events until ctx ends. Where the consumer is lost for good it goes on with another.
func (h *hub) hear(ctx context.Context, messages jetstream.MessagesContext, last uint64) {
	for {
		err := h.each(ctx, messages, &last)
		messages.Stop()
		if ctx.Err() != nil {
			return
		}
		h.s.log.Warn("events are not heard, trying again", zap.Error(err))
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
			if sleep(ctx, pause); ctx.Err() != nil {
				return
			}
			if messages, err = h.messages(ctx, last); err == nil {
				break
			}
		}
	}
}

func (h *hub) each(ctx context.Context, messages jetstream.MessagesContext, last *uint64) error {
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		*last = meta.Sequence.Stream
		h.hand(msg, meta)
	}
}

// hand gives an event to those who listen to its run.
func (h *hub) hand(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
	id := msg.Subject()[strings.LastIndexByte(msg.Subject(), '.')+1:]
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ears[id]) == 0 {
		return
	}
	event, _, err := decodeEvent(meta.Sequence.Stream, meta.Timestamp, msg.Data())
	if err != nil {
		h.s.log.Error("unreadable event", zap.String("run", id), zap.Error(err))
		return
	}
	for e := range h.ears[id] {
		e.ring(event)
	}
}

func (e *ear) ring(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.heard) == heardMost {
		e.heard, e.missed = nil, true
	}
	if !e.missed {
		e.heard = append(e.heard, event)
	}
	select {
	case e.rung <- struct{}{}:
	default: // it knows
	}
}

// take returns what was heard since the last time, or that something was missed.
func (e *ear) take() (heard []Event, missed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard, missed = e.heard, e.missed
	e.heard, e.missed = nil, false
	return heard, missed
}
