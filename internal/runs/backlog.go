package runs

import (
	"context"
	"fmt"
	"time"
)

// Backlog is what waits in one class of a kind's queue.
type Backlog struct {
	Kind, Class       string
	Waiting, InFlight int64
	Oldest            time.Duration // that the oldest waiting shard has waited
}

// Backlog reads the queues of the mesh: each class of each kind.
func (s *Service) Backlog(ctx context.Context) ([]Backlog, error) {
	var list []Backlog
	for _, kind := range s.cfg.Kinds {
		q, err := s.queue(ctx, kind)
		if err != nil {
			return nil, err
		}
		state, err := q.describe(ctx)
		if err != nil {
			return nil, fmt.Errorf("look into the queue of %s: %w", kind, err)
		}
		for _, class := range []Priority{High, Normal, Low} {
			b := Backlog{Kind: kind, Class: classNames[class]}
			for _, l := range state.Lanes {
				if l.Class == class {
					b.Waiting += l.Waiting
					b.InFlight += l.InFlight
					b.Oldest = max(b.Oldest, l.Oldest)
				}
			}
			list = append(list, b)
		}
	}
	return list, nil
}
