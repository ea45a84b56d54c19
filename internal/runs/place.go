package runs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// describedFor is how long a description is good enough for places.
const describedFor = time.Second

// Place is where a run stands among what waits for the same workers: an estimate.
type Place struct {
	Ahead    int64         // shards of other runs that are expected to be taken before its next one
	Waiting  int64         // its shards that wait
	InFlight int64         // its shards that are worked on
	TimeLeft time.Duration // until its end; 0 when nothing is known
}

// Place estimates where a run stands; false when nothing of it is in the queue.
func (s *Service) Place(ctx context.Context, run *Run) (Place, bool, error) {
	if run.State.Terminal() || run.State == Paused {
		return Place{}, false, nil
	}
	q, err := s.queue(ctx, run.Kind)
	if err != nil {
		return Place{}, false, err
	}
	queued, err := q.queued(ctx, run)
	if err != nil || len(queued) == 0 {
		return Place{}, false, err
	}
	state, err := q.recent(ctx)
	if err != nil {
		return Place{}, false, err
	}
	var p Place
	for _, shard := range run.Shards {
		if shard.Claim != "" && !shard.Done {
			p.InFlight++
		}
	}
	p.Waiting = max(int64(len(queued))-p.InFlight, 0)
	if p.Waiting > 0 {
		before, err := q.before(ctx, run, state, p.InFlight)
		if err != nil {
			return Place{}, false, err
		}
		p.Ahead = state.ahead(run.lane().name(), before)
	}
	p.TimeLeft = timeLeft(run, state, p.Ahead)
	return p, true, nil
}

// recent is a description that is at most describedFor old.
func (q *queue) recent(ctx context.Context) (QueueState, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.at) < describedFor {
		return q.described, nil
	}
	state, err := q.describe(ctx)
	if err == nil {
		q.described, q.at = state, time.Now()
	}
	return state, err
}

// before counts the shards of older runs that wait in the lane of a run: ids sort by the time of submission.
func (q *queue) before(ctx context.Context, run *Run, state QueueState, held int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := q.stream.Info(ctx, jetstream.WithSubjectFilter(q.filter(run.lane())))
	if err != nil {
		return 0, fmt.Errorf("look into the queue of %s: %w", q.kind, err)
	}
	var before int64
	for subject := range info.State.Subjects {
		tokens := strings.Split(subject, ".")
		if tokens[len(tokens)-2] < run.ID {
			before++
		}
	}
	for _, l := range state.Lanes {
		if l.standing.name == run.lane().name() {
			before -= max(l.InFlight-held, 0) // mostly of those that are ahead
		}
	}
	return max(before, 0), nil
}

// ahead is how many shards go before the next one of a run in a lane in which so many do: all of the classes above,
// and of each other owner in the same class as many as it gets turns until then.
func (q QueueState) ahead(lane string, before int64) int64 {
	mine, classed := -1, make([]Priority, len(q.Lanes))
	now := q.listed
	for i, l := range q.Lanes {
		classed[i] = l.standing.level(now)
		if l.standing.name == lane {
			mine = i
		}
	}
	if mine < 0 {
		return before
	}
	sum, turns := before, map[string]int64{}
	for i, l := range q.Lanes {
		switch {
		case i == mine || classed[i] < classed[mine]:
		case classed[i] > classed[mine]:
			sum += l.Waiting
		case l.standing.owner == q.Lanes[mine].standing.owner:
			if l.standing.oldest.Before(q.Lanes[mine].standing.oldest) {
				sum += l.Waiting
			}
		default:
			most := before // as many turns as ours
			if i < mine {
				most++ // and it comes first
			}
			share := min(l.Waiting, max(most-turns[l.standing.owner], 0))
			turns[l.standing.owner] += share
			sum += share
		}
	}
	return sum
}

// timeLeft estimates how long a run still takes: what is ahead of it, shared by all workers at work, then its own rest,
// at the speed of its own shards or else of its kind. 0 when the speed, the rest, or anybody at work is not known.
func timeLeft(run *Run, q QueueState, ahead int64) time.Duration {
	var own tally
	for _, shard := range run.Shards {
		if shard.Done && shard.Millis > 0 {
			own.Seconds += float64(shard.Millis) / 1000
			own.Units += float64(shard.Units)
		}
	}
	perUnit := own.perUnit()
	if perUnit == 0 {
		perUnit = q.tally.perUnit()
	}
	rest := run.Progress.Total - run.Progress.Done
	workers := q.InFlight
	if perUnit == 0 || rest <= 0 || workers <= 0 || ahead > 0 && q.tally.perShard() == 0 {
		return 0
	}
	abreast := min(workers, int64(run.ShardCount-run.ShardsDone))
	seconds := float64(ahead)*q.tally.perShard()/float64(workers) + float64(rest)*perUnit/float64(max(abreast, 1))
	return time.Duration(seconds * float64(time.Second))
}
