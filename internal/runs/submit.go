package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/logs"
)

// Limits that keep a run's document below 1 MiB, the most that a NATS message holds by default.
const (
	maxPayload = 128 << 10
	maxShards  = 512
	maxResults = 384 << 10 // of all shards together
	maxName    = 256       // request id, owner, target, unit
)

// reservation ties a request id to its run before that exists.
type reservation struct {
	Run  string `json:"run"`
	Hash string `json:"hash"`
}

// Submit accepts a run, durably, and says whether this call made it. The same (Owner, Kind, RequestID) with the same
// payload returns the run that exists, whatever its state; with another payload it is ErrRequestMismatch. ErrQueueFull
// leaves nothing behind; ErrInvalid names everything that is wrong with the spec.
func (s *Service) Submit(ctx context.Context, spec Spec) (Run, bool, error) {
	ctx, span := s.tracer.Start(ctx, "submit", trace.WithAttributes(attribute.String("dreamood.kind", spec.Kind)))
	defer span.End()
	if spec.Shards == 0 {
		spec.Shards = 1
	}
	payload, err := s.checkSpec(spec)
	if err != nil {
		return Run{}, false, err
	}
	if spec.RequestID == "" {
		spec.RequestID = "auto-" + newID(s.now())
	}
	hash := "sha256:" + hashOf(string(payload))
	if run, err := s.earlier(ctx, spec, hash); !errors.Is(err, ErrNotFound) {
		return run, false, err
	}
	run := s.newRun(spec, newID(s.now()), hash, payload)
	run.Trace = traceOf(ctx)
	if err := s.prepare(ctx, &run, spec); err != nil {
		return Run{}, false, err
	}
	q, err := s.queue(ctx, spec.Kind)
	if err != nil {
		return Run{}, false, err
	}
	id, err := s.reserve(ctx, spec, reservation{Run: run.ID, Hash: hash})
	if err != nil {
		return Run{}, false, err
	}
	s.point("submit.reserved")
	if id != run.ID { // the request was here before
		if found, err := s.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return found, false, err
		}
	}
	run.ID, run.Origin = id, id
	span.SetAttributes(attribute.String("dreamood.run", id), attribute.Int("dreamood.shards", run.ShardCount))
	return s.accept(ctx, q, run)
}

// accept makes the document of a run and publishes what is due of it.
func (s *Service) accept(ctx context.Context, q *queue, run Run) (Run, bool, error) {
	if err := s.waitFor(ctx, &run); err != nil {
		return Run{}, false, err
	}
	if err := q.room(ctx, len(run.due())); err != nil {
		return Run{}, false, err
	}
	if err := s.charge(ctx, run.Owner, run.ID, run.ShardCount-run.ShardsDone); err != nil {
		return Run{}, false, err
	}
	if err := s.create(ctx, &run); errors.Is(err, jetstream.ErrKeyExists) { // by the same request at the same time
		run, err = s.Get(ctx, run.ID)
		return run, false, err
	} else if err != nil {
		return Run{}, false, err
	}
	run, created, err := s.enqueue(ctx, q, run)
	if err != nil || len(run.WaitingFor) == 0 {
		return run, created, err
	}
	if err := s.advance(ctx, run.ID); err != nil { // what ended before the document was there has not released it
		s.log.Warn("run is not released yet", zap.String("run", run.ID), zap.Error(err))
	}
	run, err = s.Get(ctx, run.ID)
	return run, created, err
}

// earlier returns the run that the same request has made, ErrNotFound when it has not. It comes before the request is
// looked into, which may not be possible any more. Requests of which only the fields are checked need no such look.
func (s *Service) earlier(ctx context.Context, spec Spec, hash string) (Run, error) {
	if spec.Plan == nil && len(spec.Options.After) == 0 && spec.Options.Deadline.IsZero() {
		return Run{}, ErrNotFound
	}
	ask, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	id, err := s.reserved(ask, spec, hash)
	if err != nil {
		return Run{}, err
	}
	return s.Get(ctx, id)
}

// prepare looks into a request that was not accepted before, and plans the run unless it has to wait for others. It
// comes before the request id is reserved, so that a refused request leaves it free for the corrected one.
func (s *Service) prepare(ctx context.Context, run *Run, spec Spec) error {
	if d := run.Options.Deadline; !d.IsZero() && !d.After(s.now()) {
		return fmt.Errorf("%w run: the deadline %s has passed", ErrInvalid, d.Format(time.RFC3339))
	}
	if err := s.prerequisites(ctx, run, run.Options.After); err != nil || spec.Plan == nil && !spec.Later {
		return err
	}
	if run.Unplanned = spec.Later || len(run.WaitingFor) > 0; run.Unplanned {
		run.Shards = nil
		run.sum()
		return nil
	}
	p, err := spec.Plan(ctx, run.Payload, "")
	if err != nil {
		return err
	}
	return s.apply(run, p)
}

func requestKey(spec Spec) string { return "request." + hashOf(spec.Owner, spec.Kind, spec.RequestID) }

func (s *Service) newRun(spec Spec, id, hash string, payload []byte) Run {
	now := s.now()
	run := Run{
		ID: id, Origin: id, Kind: spec.Kind, State: Pending, RequestID: spec.RequestID, RequestHash: hash, Owner: spec.Owner,
		Target: spec.Target, Payload: payload, Options: spec.Options, Shards: make([]ShardState, spec.Shards), Planned: spec.Total,
		Progress: Progress{Unit: spec.Unit}, Created: now, Updated: now,
	}
	run.sum()
	return run
}

// reserve returns the id of the run that this request made or will make.
func (s *Service) reserve(ctx context.Context, spec Spec, want reservation) (string, error) {
	key := requestKey(spec)
	data, err := json.Marshal(want)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	_, err = s.docs.Create(ctx, key, data)
	if err == nil {
		return want.Run, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return "", fmt.Errorf("reserve request %q: %w", spec.RequestID, err)
	}
	return s.reserved(ctx, spec, want.Hash)
}

// reserved returns the id of the run that an earlier request of this id made or will make.
func (s *Service) reserved(ctx context.Context, spec Spec, hash string) (string, error) {
	value, _, err := s.read(ctx, requestKey(spec))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("read request %q: %w", spec.RequestID, err)
	}
	var found reservation
	if err := json.Unmarshal(value, &found); err != nil {
		return "", fmt.Errorf("read request %q: %w", spec.RequestID, err)
	}
	if found.Hash != hash {
		return "", fmt.Errorf("request id %q made run %s: %w; choose a new request id", spec.RequestID, found.Run, ErrRequestMismatch)
	}
	return found.Run, nil
}

func (s *Service) create(ctx context.Context, run *Run) error {
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if run.revision, err = s.docs.Create(ctx, runKey(run.ID), data); err != nil {
		return fmt.Errorf("create run %s: %w", run.ID, err)
	}
	return nil
}

// enqueue publishes the shards of a new run. From here on the run is accepted: what cannot be published now, the
// reconciler publishes. Only a full queue takes it back, unless somebody works on it already.
func (s *Service) enqueue(ctx context.Context, q *queue, run Run) (Run, bool, error) {
	s.logState(run, "")
	s.point("submit.created")
	run.Sequence = s.announce(ctx, run)
	s.point("submit.announced")
	generation := "r" + strconv.FormatUint(run.revision, 10) // another one when it was withdrawn before
	c := caller{q: q, run: &run}
	for _, unit := range run.due() {
		err := q.publish(ctx, &run, unit, generation)
		if err == nil || errors.Is(err, errQueued) {
			s.point("submit.published")
			c.published(ctx)
			continue
		}
		if errors.Is(err, ErrQueueFull) && s.withdraw(ctx, q, run) {
			return Run{}, false, err
		}
		logs.From(ctx, s.log).Warn("shards are not queued yet", zap.String("run", run.ID), zap.String("kind", run.Kind), zap.Int("first", unit), zap.Error(err))
		break
	}
	if err := c.done(ctx); err != nil {
		s.log.Warn("shards are in no lane yet", zap.String("run", run.ID), zap.Error(err))
	}
	return run, true, nil
}

// withdraw removes a run that nobody has touched yet.
func (s *Service) withdraw(ctx context.Context, q *queue, run Run) bool {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	err := s.docs.Purge(ctx, runKey(run.ID), jetstream.LastRevision(run.revision), jetstream.PurgeTTL(tombstone))
	if err != nil {
		return false
	}
	s.point("submit.withdrawn")
	s.log.Info("run withdrawn, the queue is full", zap.String("run", run.ID), zap.String("kind", run.Kind))
	if err := q.purge(ctx, &run, nil); err != nil { // workers drop messages without a run
		s.log.Warn("withdraw run", zap.String("run", run.ID), zap.Error(err))
	}
	if err := s.events.Purge(ctx, jetstream.WithPurgeSubject(s.eventSubject(run.ID))); err != nil {
		s.log.Warn("withdraw run", zap.String("run", run.ID), zap.Error(err))
	}
	return true
}

// checkSpec reports every problem at once and returns the payload without white space.
func (s *Service) checkSpec(spec Spec) ([]byte, error) {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	require(kindPattern.MatchString(spec.Kind), "kind %q: want up to 63 of a-z, 0-9 and -, the first a letter", spec.Kind)
	for _, field := range []struct{ name, value string }{
		{"request id", spec.RequestID}, {"owner", spec.Owner}, {"target", spec.Target}, {"unit", spec.Unit},
	} {
		require(len(field.value) <= maxName, "%s of %d bytes: want at most %d", field.name, len(field.value), maxName)
	}
	most := min(maxShards, s.cfg.MaxPending)
	require(spec.Shards >= 1 && spec.Shards <= most, "%d shards: want 1 to %d", spec.Shards, most)
	require(spec.Total >= 0, "total %d: want 0 or more", spec.Total)
	require(len(spec.Payload) <= maxPayload, "payload of %d bytes: want at most %d; put the bulk into an artifact", len(spec.Payload), maxPayload)
	if err := spec.Options.check(); err != nil {
		problems = append(problems, err)
	}
	var compact bytes.Buffer
	if len(spec.Payload) > 0 {
		if err := json.Compact(&compact, spec.Payload); err != nil {
			problems = append(problems, fmt.Errorf("payload: want JSON: %w", err))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w run: %w", ErrInvalid, errors.Join(problems...))
	}
	return compact.Bytes(), nil
}
