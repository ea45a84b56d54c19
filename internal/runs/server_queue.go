package runs

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/auth"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// DescribeQueue returns what waits and what is worked on. The sums are of everybody; a client sees its own lanes only.
func (s Server) DescribeQueue(ctx context.Context, q *runv1.DescribeQueueRequest) (*runv1.DescribeQueueResponse, error) {
	kinds := s.Runs.cfg.Kinds
	if q.Kind != "" {
		kinds = []string{q.Kind}
	}
	out := &runv1.DescribeQueueResponse{}
	for _, kind := range kinds {
		state, err := s.Runs.DescribeQueue(ctx, kind)
		if errors.Is(err, ErrNoQueue) && q.Kind == "" {
			continue
		}
		if err != nil {
			return nil, Fault(err)
		}
		out.Queues = append(out.Queues, state.proto(ctx))
	}
	return out, nil
}

func (q QueueState) proto(ctx context.Context) *runv1.Queue {
	out := &runv1.Queue{Kind: q.Kind, Waiting: q.Waiting, InFlight: q.InFlight, Oldest: span(q.Oldest), UnitsPerSecond: q.UnitsPerSecond}
	for _, l := range q.Lanes {
		if !auth.Sees(ctx, l.Owner) {
			continue
		}
		out.Lanes = append(out.Lanes, &runv1.Lane{
			Priority: l.Class.Proto(), Owner: l.Owner, Waiting: l.Waiting, InFlight: l.InFlight, Oldest: span(l.Oldest),
		})
	}
	return out
}

func (p Place) proto() *runv1.QueuePlace {
	return &runv1.QueuePlace{Ahead: int32(p.Ahead), Waiting: int32(p.Waiting), InFlight: int32(p.InFlight), TimeLeft: span(p.TimeLeft)}
}

// span is a duration for clients; nothing stays nothing.
func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
