package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// oldConsumer was the one consumer of a queue before there were lanes, on subjects "<name>.shard.<kind>.<run>.<shard>".
const oldConsumer = "workers"

// upgrade makes room for lanes in a queue of the older layout. Its messages are removed: each is only the permission to
// look at a run, and the reconciler publishes them again in their lanes. It refuses while workers of the older version
// pull.
func (q *queue) upgrade(ctx context.Context, name string) error {
	stream, err := q.s.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	old := q.s.cfg.Name + ".shard." + q.kind + ".*.*"
	if !slices.Contains(stream.CachedInfo().Config.Subjects, old) {
		return nil
	}
	consumer, err := stream.Consumer(ctx, oldConsumer)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // an upgrade that was cut off
	case err != nil:
		return err
	default:
		if n := consumer.CachedInfo().NumWaiting; n > 0 {
			return fmt.Errorf("stream %s has the layout of an older version, and %d workers of that version still pull from it; "+
				"stop all processes of the older version, then start this one again: no run is lost", name, n)
		}
		if err := stream.DeleteConsumer(ctx, oldConsumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(old)); err != nil {
		return err
	}
	q.s.log.Info("queue of an older layout, now with lanes", zap.String("stream", name), zap.Uint64("messages", stream.CachedInfo().State.Msgs))
	return nil
}
