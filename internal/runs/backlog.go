package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog is what waits in one class of a kind's queue.
type Backlog struct {
	Kind, Class       string
	Waiting, InFlight int64
	Oldest            time.Duration // that the oldest waiting shard has waited
}

// Backlog reads the queues of the mesh.
func (s *Service) Backlog(ctx context.Context) ([]Backlog, error) {
	var list []Backlog
	for _, kind := range s.cfg.Kinds {
		q, err := s.queue(ctx, kind)
		if err != nil {
			return nil, err
		}
		b, err := q.backlog(ctx)
		if err != nil {
			return nil, fmt.Errorf("look into the queue of %s: %w", kind, err)
		}
		list = append(list, b)
	}
	return list, nil
}

func (q *queue) backlog(ctx context.Context) (Backlog, error) {
	info, err := q.consumer.Info(ctx)
	if err != nil {
		return Backlog{}, err
	}
	b := Backlog{Kind: q.kind, Class: "normal", Waiting: int64(info.NumPending), InFlight: int64(info.NumAckPending)}
	if info.NumPending == 0 {
		return b, nil
	}
	oldest, err := q.stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(q.subject("*", "*")))
	if errors.Is(err, jetstream.ErrMsgNotFound) { // taken in between
		return b, nil
	}
	if err == nil {
		b.Oldest = max(0, info.TimeStamp.Sub(oldest.Time))
	}
	return b, err
}
