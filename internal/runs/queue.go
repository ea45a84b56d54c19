package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// dedupWindow is how long the server remembers message ids.
	dedupWindow = 2 * time.Minute
	// storeFailed is the server's code for a message that a limit refused.
	storeFailed jetstream.ErrorCode = 10077
)

// errQueued means that the shard has a message in the queue already, or had one of this generation.
var errQueued = errors.New("in the queue already")

// queue is the work-queue stream of one kind, "<name>-queue-<kind>": one subject per shard, with at most one message,
// in lanes.
type queue struct {
	s      *Service
	kind   string
	stream jetstream.Stream

	mu        sync.Mutex // of what follows
	described QueueState // by recent
	at        time.Time
}

// message is what travels: where to look.
type message struct {
	Run      string `json:"run"`
	Shard    int    `json:"shard"`              // or planUnit
	Revision uint64 `json:"revision,omitempty"` // of the document when it was published: an older one is not the truth
}

// queue opens the queue of a kind and makes it where it is missing.
func (s *Service) queue(ctx context.Context, kind string) (*queue, error) {
	s.mu.Lock()
	q := s.queues[kind]
	s.mu.Unlock()
	if q != nil {
		return q, nil
	}
	q = &queue{s: s, kind: kind}
	if err := q.open(ctx); err != nil {
		return nil, fmt.Errorf("open the queue of %s: %w", kind, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[kind] = q
	return q, nil
}

func (q *queue) open(ctx context.Context) (err error) {
	name := q.s.cfg.Name + "-queue-" + q.kind
	if err := q.upgrade(ctx, name); err != nil {
		return err
	}
	q.stream, err = q.s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Description: "dreamood: shards of " + q.kind + " that wait or are worked on",
		Subjects: []string{q.subject("*", "*", "*", "*")}, Retention: jetstream.WorkQueuePolicy, Replicas: q.s.cfg.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: int64(q.s.cfg.MaxPending), MaxMsgsPerSubject: 1, DiscardNewPerSubject: true,
		Duplicates: dedupWindow,
	})
	return err
}

// subject of a shard, or, with *, of many.
func (q *queue) subject(class, owner, run, shard string) string {
	return strings.Join([]string{q.s.cfg.Name, "shard", q.kind, class, owner, run, shard}, ".")
}

// subjectOf a shard of a run.
func (q *queue) subjectOf(run *Run, shard string) string {
	l := run.lane()
	return q.subject(classNames[l.class], l.key, run.ID, shard)
}

// publish puts the message of a shard into the queue. The generation is the third part of the message id: of two
// processes that see the same need in the same generation one publishes. errQueued and ErrQueueFull are the refusals.
func (q *queue) publish(ctx context.Context, run *Run, shard int, generation string) error {
	data, err := json.Marshal(message{Run: run.ID, Shard: shard, Revision: run.revision})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	number := unitToken(shard)
	id := strings.Join([]string{run.ID, number, generation}, ".")
	msg := &nats.Msg{Subject: q.subjectOf(run, number), Data: data, Header: run.headers()}
	ack, err := q.s.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id))
	var refused *jetstream.APIError
	switch {
	case err == nil && ack.Duplicate:
		return errQueued
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.ErrorCode == storeFailed && strings.Contains(refused.Description, "per subject"):
		return errQueued
	case errors.As(err, &refused) && refused.ErrorCode == storeFailed:
		return fmt.Errorf("queue of %s, %d shards: %w", q.kind, q.s.cfg.MaxPending, ErrQueueFull)
	}
	return fmt.Errorf("queue shard %d of run %s: %w", shard, run.ID, err)
}

// unitToken is a shard in subjects and message ids.
func unitToken(unit int) string {
	if unit == planUnit {
		return "plan"
	}
	return strconv.Itoa(unit)
}

// room says whether so many more shards fit now.
func (q *queue) room(ctx context.Context, shards int) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := q.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("look into the queue of %s: %w", q.kind, err)
	}
	if info.State.Msgs+uint64(shards) > uint64(q.s.cfg.MaxPending) {
		return fmt.Errorf("queue of %s: %d of %d shards are waiting or worked on, %d more do not fit: %w",
			q.kind, info.State.Msgs, q.s.cfg.MaxPending, shards, ErrQueueFull)
	}
	return nil
}

// queued returns the subjects of a run's shards that have a message.
func (q *queue) queued(ctx context.Context, run *Run) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := q.stream.Info(ctx, jetstream.WithSubjectFilter(q.subjectOf(run, "*")))
	if err != nil {
		return nil, fmt.Errorf("look into the queue of %s: %w", q.kind, err)
	}
	return info.State.Subjects, nil
}

// purge removes the messages of a run but those on the kept subjects, one by one. A purge by subject (nats-server 2.15.2) makes a consumer forget the
// older messages of other runs that it has delivered and that are not acknowledged: nobody ever gets them again.
func (q *queue) purge(ctx context.Context, run *Run, keep map[string]bool) error {
	queued, err := q.queued(ctx, run)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for subject := range queued {
		if keep[subject] {
			continue
		}
		if err := q.remove(ctx, subject); err != nil {
			return fmt.Errorf("remove %s from the queue: %w", subject, err)
		}
	}
	return nil
}

// remove takes out the message of a subject, if there is one.
func (q *queue) remove(ctx context.Context, subject string) error {
	msg, err := q.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	refused := q.stream.DeleteMsg(ctx, msg.Sequence)
	if refused == nil {
		return nil
	}
	if _, err := q.stream.GetMsg(ctx, msg.Sequence); errors.Is(err, jetstream.ErrMsgNotFound) { // acknowledged meanwhile
		return nil
	}
	return refused
}
