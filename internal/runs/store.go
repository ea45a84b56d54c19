package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errKeep is returned by a change that has nothing to write.
var errKeep = errors.New("nothing to change")

func runKey(id string) string { return "run." + id }

// load reads a run.
func (s *Service) load(ctx context.Context, id string) (Run, error) {
	if !idPattern.MatchString(id) {
		return Run{}, fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	value, revision, err := s.read(ctx, runKey(id))
	if err == nil {
		return decodeRun(runKey(id), value, revision)
	}
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Run{}, fmt.Errorf("run %s: %w", id, ErrNotFound)
	}
	return Run{}, fmt.Errorf("read run %s: %w", id, err)
}

func decode(entry jetstream.KeyValueEntry) (Run, error) {
	return decodeRun(entry.Key(), entry.Value(), entry.Revision())
}

func decodeRun(key string, value []byte, revision uint64) (Run, error) {
	var run Run
	if err := json.Unmarshal(value, &run); err != nil {
		return Run{}, fmt.Errorf("document %s, revision %d: %w", key, revision, err)
	}
	if !run.Unplanned && (len(run.Shards) == 0 || run.Finisher < 0 || run.Finisher >= len(run.Shards)) {
		return Run{}, fmt.Errorf("document %s, revision %d: no shards", key, revision)
	}
	if run.Origin == "" { // written by an older version
		run.Origin = run.ID
	}
	run.revision = revision
	return run, nil
}

// change is ledger.change.
func (s *Service) change(ctx context.Context, id string, f func(*Run) error) (Run, error) {
	return s.ledger.change(ctx, id, f)
}

func (s *Service) write(ctx context.Context, run *Run) error {
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	revision, err := s.docs.Update(ctx, runKey(run.ID), data, run.revision)
	if err == nil {
		run.revision = revision
	}
	return err
}

// persist is change for workers, whose work is worth waiting for: while the queue cannot be reached it tries again, up
// to Config.CommitWait.
func (s *Service) persist(ctx context.Context, id string, f func(*Run) error) (Run, error) {
	deadline := time.Now().Add(s.cfg.CommitWait)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		run, err := s.change(ctx, id, f)
		if err == nil || !unreachable(err) || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return run, err
		}
		sleep(ctx, pause)
	}
}

// unreachable says whether err may go away by itself.
func unreachable(err error) bool {
	for _, transient := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting,
		jetstream.ErrNoStreamResponse, context.DeadlineExceeded, errStale,
	} {
		if errors.Is(err, transient) {
			return true
		}
	}
	return false
}
