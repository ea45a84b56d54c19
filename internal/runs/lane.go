package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// A lane is what one owner has in one class of a queue: a durable consumer of its own, named "<class>-<owner key>", on
// the subjects "<name>.shard.<kind>.<class>.<owner key>.*.*". JetStream knows no priorities; which lane a worker pulls
// from is the policy. Within a lane the order is that of publication.
type lane struct {
	class Priority
	key   string // of the owner
}

// noOwner is the key of runs without an owner. Other keys are hexadecimal.
const noOwner = "none"

// ownerMeta is the name of the owner in the metadata of a lane's consumer.
const ownerMeta = "dreamood-owner"

var classNames = map[Priority]string{Low: "low", Normal: "normal", High: "high"}

func ownerKey(owner string) string {
	if owner == "" {
		return noOwner
	}
	return hashOf(owner)[:16]
}

func (r *Run) lane() lane { return lane{r.Options.Priority, ownerKey(r.Owner)} }

func (l lane) name() string { return classNames[l.class] + "-" + l.key }

// parseLane is the inverse of name.
func parseLane(name string) (lane, bool) {
	text, key, _ := strings.Cut(name, "-")
	for class, name := range classNames {
		if name == text && key != "" {
			return lane{class, key}, true
		}
	}
	return lane{}, false
}

// laneOf returns the kind and the lane of a shard's subject.
func (s *Service) laneOf(subject string) (kind string, l lane, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.cfg.Name+".shard.")
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 5 {
		return "", lane{}, false
	}
	l, ok = parseLane(tokens[1] + "-" + tokens[2])
	return tokens[0], l, ok
}

// filter is the subjects of a lane.
func (q *queue) filter(l lane) string {
	return strings.Join([]string{q.s.cfg.Name, "shard", q.kind, classNames[l.class], l.key, "*", "*"}, ".")
}

func (q *queue) makeLane(ctx context.Context, l lane, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	_, err := q.stream.Consumer(ctx, l.name()) // in a cluster, cheaper than to make it again
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = q.stream.CreateOrUpdateConsumer(ctx, q.laneConfig(l, owner))
	}
	if err != nil {
		return fmt.Errorf("open lane %s of the queue of %s: %w", l.name(), q.kind, err)
	}
	return nil
}

func (q *queue) laneConfig(l lane, owner string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: l.name(), FilterSubject: q.filter(l), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: q.s.cfg.AckWait, MaxDeliver: -1, MaxAckPending: -1, Metadata: map[string]string{ownerMeta: owner},
	}
}

// laneInfo is a lane as the server shows it.
type laneInfo struct {
	lane
	*jetstream.ConsumerInfo
}

// lanes lists the lanes of a queue: one question per 256 of them.
func (q *queue) lanes(ctx context.Context) ([]laneInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var list []laneInfo
	lister := q.stream.ListConsumers(ctx)
	for info := range lister.Info() {
		if l, ok := parseLane(info.Name); ok {
			list = append(list, laneInfo{l, info})
		}
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list the lanes of %s: %w", q.kind, err)
	}
	return list, nil
}

// idle is for how long nothing has happened in a lane, 0 when it holds shards.
func (l *laneInfo) idle() time.Duration {
	if l.NumPending > 0 || l.NumAckPending > 0 {
		return 0
	}
	last := l.Created
	for _, active := range []*time.Time{l.Delivered.Last, l.AckFloor.Last} {
		if active != nil && active.After(last) {
			last = *active
		}
	}
	return l.TimeStamp.Sub(last)
}

// tend is one pass of the reconciler over the lanes: it removes those that have been empty for Config.LaneIdle, makes
// lanes for messages that lie in none, and calls for messages that their lane does not count.
func (q *queue) tend(ctx context.Context) error {
	list, err := q.lanes(ctx)
	if err != nil {
		return err
	}
	var problems []error
	counted := map[lane]uint64{}
	for _, l := range list {
		counted[l.lane] = l.NumPending + uint64(l.NumAckPending)
		if l.idle() >= q.s.cfg.LaneIdle {
			problems = append(problems, q.removeLane(ctx, l.lane))
		}
	}
	ask, cancel := context.WithTimeout(ctx, askWait)
	info, err := q.stream.Info(ask)
	cancel()
	// One lane too few in the sum could hide behind another that is counted too high, so each is compared.
	if err == nil && info.State.Msgs > 0 && (len(list) != 1 || info.State.Msgs > counted[list[0].lane]) {
		err = q.adopt(ctx, q.subject("*", "*", "*", "*"), counted)
	}
	return errors.Join(append(problems, err)...)
}

// removeLane removes the consumer of a lane that is still empty. A shard that comes meanwhile is seen by adopt, or by
// its publisher, who makes the lane again.
func (q *queue) removeLane(ctx context.Context, l lane) error {
	ask, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	consumer, err := q.stream.Consumer(ask, l.name())
	if err == nil {
		now := laneInfo{l, consumer.CachedInfo()}
		if now.idle() < q.s.cfg.LaneIdle {
			return nil
		}
		err = q.stream.DeleteConsumer(ask, l.name())
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) { // another reconciler was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove lane %s of the queue of %s: %w", l.name(), q.kind, err)
	}
	q.s.log.Info("empty lane removed", zap.String("kind", q.kind), zap.String("lane", l.name()))
	return q.adopt(ctx, q.filter(l), nil)
}

// adopt makes the lanes of all messages on the given subjects, and calls the workers for those that are more than their
// lane was found to count. nats-server 2.15.2 counts one too few for good when a consumer is looked at in the moment in
// which a message that waits is deleted: the count is cut to what the stream holds, and then the message is taken off
// once more. Workers go by the count, so they would not pull the last message of that lane; the server gives it to
// whoever asks for it and waits. A call too many costs a pull that finds nothing.
func (q *queue) adopt(ctx context.Context, subjects string, counted map[lane]uint64) error {
	ask, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := q.stream.Info(ask, jetstream.WithSubjectFilter(subjects))
	if err != nil {
		return fmt.Errorf("look into the queue of %s: %w", q.kind, err)
	}
	held, some := map[lane]uint64{}, map[lane]string{}
	for subject, messages := range info.State.Subjects {
		if _, l, ok := q.s.laneOf(subject); ok {
			held[l] += messages
			some[l] = subject
		}
	}
	for l, messages := range held {
		if messages <= counted[l] {
			continue
		}
		if err := q.makeLane(ctx, l, q.ownerOf(ctx, some[l])); err != nil {
			return err
		}
		q.s.wake(q.kind, call{Lane: l.name(), Uncounted: int64(messages - counted[l])})
	}
	return nil
}

// ownerOf names the owner of a shard's run, as far as that is known.
func (q *queue) ownerOf(ctx context.Context, subject string) string {
	tokens := strings.Split(subject, ".")
	run, err := q.s.load(ctx, tokens[len(tokens)-2])
	if err != nil {
		return "" // an orphan, which the next worker drops
	}
	return run.Owner
}
