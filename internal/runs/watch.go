package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// idleCheck is how often a watcher that hears nothing looks whether the run has ended without a word.
	idleCheck = 5 * time.Second
	// readers is how many watchers of one process read old events at the same time, each with a consumer of its own.
	readers = 32
	// oldEvents is how many old events are asked for at once.
	oldEvents = 250
)

// errWatched ends a watch well.
var errWatched = errors.New("the run has ended")

// follower is one call of Watch.
type follower struct {
	s      *Service
	id     string
	after  uint64 // sequence number of the last event
	newest uint64 // revision of the last event
	run    Run    // for what events do not carry
	yield  func(Event) error
}

// Watch calls yield for every event of a run after a sequence number, the old ones first (0: from the first that is
// kept), follows the run, and returns nil after its terminal event: at once when that is not after the sequence number.
// The events of one run come in order; progress that arrives late is left out. Errors of yield and of ctx end it. A
// slow yield delays nobody else: what it is too late to hear, it reads later.
func (s *Service) Watch(ctx context.Context, id string, after uint64, yield func(Event) error) error {
	ear, err := s.hub.listen(ctx, id) // first, so that nothing falls between reading and hearing
	if err != nil {
		return fmt.Errorf("watch run %s: %w", id, err)
	}
	defer ear.close()
	run, last, err := s.settleEvents(ctx, id)
	if err != nil {
		return err
	}
	if last.Run.State.Terminal() && last.Sequence <= after {
		return nil
	}
	w := &follower{s: s, id: id, after: after, run: run, yield: yield}
	for err == nil {
		if err = w.read(ctx); err == nil {
			err = w.follow(ctx, ear)
		}
	}
	if errors.Is(err, errWatched) {
		return nil
	}
	return err
}

// read yields the events that are stored by now.
func (w *follower) read(ctx context.Context) error {
	select {
	case w.s.readers <- struct{}{}:
		defer func() { <-w.s.readers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	consumer, err := w.s.events.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: w.s.eventSubject(w.id), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: w.after + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("watch run %s: %w", w.id, err)
	}
	defer func() { // unreachable it goes by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWait)
		defer cancel()
		_ = w.s.events.DeleteConsumer(ctx, consumer.CachedInfo().Name)
	}()
	for left := consumer.CachedInfo().NumPending; left > 0; {
		batch, err := consumer.FetchNoWait(oldEvents)
		if err != nil {
			return fmt.Errorf("watch run %s: %w", w.id, err)
		}
		before := left
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return fmt.Errorf("watch run %s: %w", w.id, err)
			}
			left = meta.NumPending
			event, _, err := decodeEvent(meta.Sequence.Stream, meta.Timestamp, msg.Data())
			if err != nil {
				return fmt.Errorf("watch run %s: %w", w.id, err)
			}
			if err := w.see(event); err != nil {
				return err
			}
		}
		if err := batch.Error(); err != nil {
			return fmt.Errorf("watch run %s: %w", w.id, err)
		}
		if left == before { // removed meanwhile: nothing more comes
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// follow yields events as they are heard; nil when some were missed. Now and then it looks whether one is missing.
func (w *follower) follow(ctx context.Context, ear *ear) error {
	idle := time.NewTimer(idleCheck)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ear.rung:
			idle.Reset(idleCheck)
			heard, missed := ear.take()
			for _, event := range heard {
				if err := w.see(event); err != nil {
					return err
				}
			}
			if missed {
				return nil
			}
		case <-idle.C:
			idle.Reset(idleCheck)
			_, last, err := w.s.settleEvents(ctx, w.id)
			if err != nil && !unreachable(err) {
				return err
			}
			if last.Sequence > w.after {
				return nil
			}
		}
	}
}

// see yields an event, once, unless a newer one has overtaken it.
func (w *follower) see(event Event) error {
	if event.Sequence <= w.after {
		return nil
	}
	w.after = event.Sequence
	if event.Run.revision <= w.newest {
		return nil
	}
	w.newest = event.Run.revision
	event.Run.Payload = w.run.Payload
	if err := w.yield(event); err != nil {
		return err
	}
	if event.Run.State.Terminal() {
		return errWatched
	}
	return nil
}
