package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// eventDoc is an event as it is stored: the run without its bulk.
type eventDoc struct {
	Run      Run    `json:"run"`
	Revision uint64 `json:"revision"` // of the document
}

func (s *Service) eventSubject(id string) string { return s.cfg.Name + ".event." + id }

// telling is an event on its way.
type telling struct {
	revision uint64
	done     chan struct{}
	sequence uint64 // when done
}

// knownEnds is of how many runs a process remembers that it told of their end.
const knownEnds = 1024

// voice is what this process tells of one run. The end is told alone, after all that was on its way.
type voice struct {
	order sync.RWMutex
	ended atomic.Uint64 // revision of the end that was told, 0 before
	last  *telling      // of Service.mu, like users
	users int
}

// announce publishes the run as it now stands and returns the event's sequence, 0 when that did not work: the document
// is the truth, and Watch repairs a missing end. The same revision is published once; those whose changes were written
// together tell of them together. What is older than an end that this process has told is left out: 0, too.
func (s *Service) announce(ctx context.Context, run Run) uint64 {
	s.mu.Lock()
	v := s.voices[run.ID]
	if v == nil {
		v = &voice{}
		s.voices[run.ID] = v
	}
	if t := v.last; t != nil && t.revision == run.revision {
		s.mu.Unlock()
		<-t.done // within a few askWait
		return t.sequence
	}
	t := &telling{revision: run.revision, done: make(chan struct{})}
	v.last = t
	v.users++
	s.mu.Unlock()
	t.sequence = s.tellInOrder(ctx, v, run)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.last == t {
		v.last = nil
	}
	if v.users--; v.users == 0 && v.ended.Load() == 0 {
		delete(s.voices, run.ID)
	}
	close(t.done)
	return t.sequence
}

func (s *Service) tellInOrder(ctx context.Context, v *voice, run Run) (sequence uint64) {
	if !run.State.Terminal() {
		v.order.RLock()
		defer v.order.RUnlock()
		if run.revision < v.ended.Load() {
			return 0
		}
		return s.tell(ctx, run, "")
	}
	v.order.Lock()
	defer v.order.Unlock()
	if sequence = s.tell(ctx, run, ""); sequence > 0 && v.ended.Swap(run.revision) == 0 {
		s.rememberEnd(run.ID)
	}
	return sequence
}

// rememberEnd forgets the oldest end for a new one.
func (s *Service) rememberEnd(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, id)
	if len(s.ends) <= knownEnds {
		return
	}
	oldest := s.ends[0]
	s.ends = s.ends[1:]
	if v := s.voices[oldest]; v != nil {
		if v.ended.Store(0); v.users == 0 {
			delete(s.voices, oldest)
		}
	}
}

// tell publishes the event under a name that the server takes once in dedupWindow; mark makes it another name.
func (s *Service) tell(ctx context.Context, run Run, mark string) uint64 {
	slim := run
	slim.Shards, slim.Payload, slim.Dependents, slim.Dead, slim.Final, slim.Planning = nil, nil, nil, nil, ShardState{}, ShardState{}
	data, err := json.Marshal(eventDoc{Run: slim, Revision: run.revision})
	if err != nil {
		s.log.Error("encode event", zap.String("run", run.ID), zap.Error(err))
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	id := run.ID + "." + strconv.FormatUint(run.revision, 10) + mark
	ack, err := s.js.Publish(ctx, s.eventSubject(run.ID), data, jetstream.WithMsgID(id))
	if err != nil {
		s.log.Warn("event is not published", zap.String("run", run.ID), zap.String("state", string(run.State)), zap.Error(err))
		return 0
	}
	return ack.Sequence
}

func decodeEvent(sequence uint64, when time.Time, data []byte) (Event, uint64, error) {
	var doc eventDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return Event{}, 0, fmt.Errorf("event %d: %w", sequence, err)
	}
	doc.Run.Sequence, doc.Run.revision = sequence, doc.Revision
	return Event{Sequence: sequence, Time: when, Run: doc.Run}, doc.Revision, nil
}

// lastEvent returns the newest event of a run; the zero Event when there is none.
func (s *Service) lastEvent(ctx context.Context, id string) (Event, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	last := s.lastOfCopy
	if s.cfg.Replicas > 1 { // a copy may lag behind
		last = func(ctx context.Context, subject string) (*stored, error) {
			return s.fromLeader(ctx, s.cfg.Name+"-events", subject)
		}
	}
	msg, err := last(ctx, s.eventSubject(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Event{}, nil
	}
	if err != nil {
		return Event{}, fmt.Errorf("read the events of run %s: %w", id, err)
	}
	event, _, err := decodeEvent(msg.Sequence, msg.Time, msg.Data)
	return event, err
}

func (s *Service) lastOfCopy(ctx context.Context, subject string) (*stored, error) {
	msg, err := s.events.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return nil, err
	}
	return &stored{Sequence: msg.Sequence, Data: msg.Data, Time: msg.Time}, nil
}

// settleEvents reads a run and its last event, and publishes the state that a process died before it could tell of.
func (s *Service) settleEvents(ctx context.Context, id string) (Run, Event, error) {
	run, err := s.load(ctx, id)
	if err != nil {
		return Run{}, Event{}, err
	}
	last, err := s.lastEvent(ctx, id)
	if err == nil && run.State != last.Run.State && run.revision > last.Run.revision {
		s.announce(ctx, run)
		// The server remembers the name of an event that a removal took away before it died.
		if now, err := s.lastEvent(ctx, id); err == nil && now.Run.State != run.State && run.revision > now.Run.revision {
			s.tell(ctx, run, ".again")
		}
		s.point("watch.repaired")
	}
	return run, last, err
}
