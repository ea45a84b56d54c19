package runs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

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
	if err := s.admit(ctx, spec); err != nil {
		return Run{}, false, err
	}
	q, err := s.queue(ctx, spec.Kind)
	if err != nil {
		return Run{}, false, err
	}
	want := reservation{Run: newID(s.now()), Hash: "sha256:" + hashOf(string(payload))}
	id, err := s.reserve(ctx, spec, want)
	if err != nil {
		return Run{}, false, err
	}
	s.point("submit.reserved")
	run, err := s.Get(ctx, id)
	if !errors.Is(err, ErrNotFound) {
		return run, false, err
	}
	if err := q.room(ctx, spec.Shards); err != nil {
		return Run{}, false, err
	}
	run = s.newRun(spec, id, want.Hash, payload)
	run.Trace = traceOf(ctx)
	span.SetAttributes(attribute.String("dreamood.run", id), attribute.Int("dreamood.shards", spec.Shards))
	if err := s.create(ctx, &run); errors.Is(err, jetstream.ErrKeyExists) { // by the same request at the same time
		run, err = s.Get(ctx, id)
		return run, false, err
	} else if err != nil {
		return Run{}, false, err
	}
	return s.enqueue(ctx, q, run)
}

// admit asks spec.Admit about a request that was not accepted before. It comes first, so that a refused request leaves
// its id free for the corrected one.
func (s *Service) admit(ctx context.Context, spec Spec) error {
	if spec.Admit == nil {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, askWait)
	_, err := s.docs.Get(ask, requestKey(spec))
	cancel()
	if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	return spec.Admit(ctx)
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
	entry, err := s.docs.Get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("read request %q: %w", spec.RequestID, err)
	}
	var found reservation
	if err := json.Unmarshal(entry.Value(), &found); err != nil {
		return "", fmt.Errorf("read request %q: %w", spec.RequestID, err)
	}
	if found.Hash != want.Hash {
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
	published := 0
	for shard := range run.Shards {
		if !run.needsMessage(shard) {
			continue
		}
		err := q.publish(ctx, &run, shard, generation)
		if err == nil || errors.Is(err, errQueued) {
			s.point("submit.published")
			published++
			continue
		}
		if errors.Is(err, ErrQueueFull) && s.withdraw(ctx, q, run) {
			return Run{}, false, err
		}
		logs.From(ctx, s.log).Warn("shards are not queued yet", zap.String("run", run.ID), zap.String("kind", run.Kind), zap.Int("first", shard), zap.Error(err))
		break
	}
	if err := q.ready(ctx, &run, published); err != nil {
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
	if err := q.purge(ctx, &run); err != nil { // workers drop messages without a run
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
