package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// QueueState is what waits and what is worked on of one kind. A shard is in it from its publication until it is done or
// its run has ended or is paused; so are shards that are to be tried again. Dead letters are not.
type QueueState struct {
	Kind              string
	Waiting, InFlight int64
	Oldest            time.Duration // that the oldest waiting shard has waited
	UnitsPerSecond    float64       // of one worker, measured; 0 when not known yet
	Lanes             []LaneState   // those in which shards wait first, in the order in which they are served now

	tally  tally
	listed time.Time // by the server's clock
}

// LaneState is what one owner has in one class of a queue.
type LaneState struct {
	Class             Priority
	Owner             string
	Waiting, InFlight int64
	Oldest            time.Duration

	standing standing
}

// DescribeQueue describes the queue of a kind.
func (s *Service) DescribeQueue(ctx context.Context, kind string) (QueueState, error) {
	if !kindPattern.MatchString(kind) {
		return QueueState{}, fmt.Errorf("%w kind %q: want up to 63 of a-z, 0-9 and -, the first a letter", ErrInvalid, kind)
	}
	if _, err := s.js.Stream(ctx, s.cfg.Name+"-queue-"+kind); err != nil { // a question makes no queue
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("queue of %s: %w", kind, ErrNoQueue)
		}
		return QueueState{}, err
	}
	q, err := s.queue(ctx, kind)
	if err != nil {
		return QueueState{}, err
	}
	return q.describe(ctx)
}

func (q *queue) describe(ctx context.Context) (QueueState, error) {
	list, err := q.lanes(ctx)
	if err != nil {
		return QueueState{}, err
	}
	oldest, err := q.oldest(ctx, list)
	if err != nil {
		return QueueState{}, err
	}
	speed, err := q.s.tally(ctx, q.kind)
	if err != nil {
		return QueueState{}, err
	}
	out := QueueState{Kind: q.kind, UnitsPerSecond: speed.perSecond(), tally: speed}
	var now time.Time
	standings := make([]standing, len(list))
	lanes := make([]LaneState, len(list))
	for i, info := range list {
		now = info.TimeStamp
		standings[i] = info.standing(oldest[i])
		lanes[i] = LaneState{
			Class: info.class, Owner: info.Config.Metadata[ownerMeta], Waiting: int64(info.NumPending),
			InFlight: int64(info.NumAckPending), standing: standings[i],
		}
		if info.NumPending > 0 {
			lanes[i].Oldest = max(0, now.Sub(oldest[i]))
		}
		out.Waiting += lanes[i].Waiting
		out.InFlight += lanes[i].InFlight
		out.Oldest = max(out.Oldest, lanes[i].Oldest)
	}
	out.listed = now
	for _, i := range servingOrder(standings, now) {
		out.Lanes = append(out.Lanes, lanes[i])
	}
	for _, l := range lanes {
		if l.Waiting == 0 && l.InFlight > 0 {
			out.Lanes = append(out.Lanes, l)
		}
	}
	return out, nil
}

// standing is the lane as the policy sees it.
func (l *laneInfo) standing(oldest time.Time) standing {
	s := standing{
		name: l.Name, class: l.class, owner: l.key, waiting: int64(l.NumPending), inFlight: int64(l.NumAckPending), oldest: oldest,
	}
	if l.Delivered.Last != nil {
		s.served = *l.Delivered.Last
	}
	return s
}

// oldest asks when the next shard of each lane was queued; where none waits, it is the time of the list.
func (q *queue) oldest(ctx context.Context, list []laneInfo) ([]time.Time, error) {
	times := make([]time.Time, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, info := range list {
		times[i] = info.TimeStamp
		if info.NumPending == 0 {
			continue
		}
		group.Go(func() error {
			ask, cancel := context.WithTimeout(ctx, askWait)
			defer cancel()
			msg, err := q.stream.GetMsg(ask, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(q.filter(info.lane)))
			switch {
			case errors.Is(err, jetstream.ErrMsgNotFound): // taken in between
				return nil
			case err != nil:
				return fmt.Errorf("look into lane %s of the queue of %s: %w", info.Name, q.kind, err)
			}
			times[i] = msg.Time
			return nil
		})
	}
	return times, group.Wait()
}
