package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// rateEvery is how often a process writes what it measured, at most, per kind.
	rateEvery = 5 * time.Second
	// rateHalfLife is how old a measurement is that counts half.
	rateHalfLife = 10 * time.Minute
)

// tally is what the shards of a kind took, each weighted by its age: a document "rate.<kind>". Only shards count that
// one attempt did from their beginning to their end, so that neither check-points nor interruptions make work look fast
// or slow.
type tally struct {
	Seconds float64   `json:"seconds"`
	Units   float64   `json:"units"`
	Shards  float64   `json:"shards"`
	Updated time.Time `json:"updated"`
}

// perUnit is the seconds that one worker takes for a unit; 0 when not known.
func (t tally) perUnit() float64 {
	if t.Units <= 0 {
		return 0
	}
	return t.Seconds / t.Units
}

// perSecond is the units that one worker does in a second; 0 when not known.
func (t tally) perSecond() float64 {
	if t.Seconds <= 0 {
		return 0
	}
	return t.Units / t.Seconds
}

// perShard is the seconds that a shard takes; 0 when not known.
func (t tally) perShard() float64 {
	if t.Shards <= 0 {
		return 0
	}
	return t.Seconds / t.Shards
}

// add ages what was measured and adds what is new.
func (t tally) add(more tally, now time.Time) tally {
	halves := float64(max(now.Sub(t.Updated), 0)) / float64(rateHalfLife)
	weight := math.Exp2(-min(halves, 20)) // the ratios are kept, however long nothing comes
	return tally{
		Seconds: weight*t.Seconds + more.Seconds, Units: weight*t.Units + more.Units, Shards: weight*t.Shards + more.Shards, Updated: now,
	}
}

// rates are what this process measured and has not written yet, and when it wrote last, by kind.
type rates struct {
	mu      sync.Mutex
	fresh   map[string]tally
	written map[string]time.Time
}

func rateKey(kind string) string { return "rate." + kind }

// took is how long an attempt worked on its shard, in milliseconds, when it did all of it; 0 otherwise.
func (a *attempt) took(now *Run) int64 {
	before := a.run.Shards[a.shard]
	if before.Attempt > 1 || before.Units > 0 || now.RetryOf != "" || now.Pauses > 0 {
		return 0
	}
	return max(time.Since(a.begun).Milliseconds(), 1)
}

// measure counts a shard that was committed, and now and then writes the tally of its kind.
func (s *Service) measure(ctx context.Context, kind string, shard ShardState) {
	if shard.Millis == 0 || shard.Units == 0 {
		return
	}
	now := s.now()
	s.rates.mu.Lock()
	fresh := s.rates.fresh[kind]
	fresh.Seconds += float64(shard.Millis) / 1000
	fresh.Units += float64(shard.Units)
	fresh.Shards++
	s.rates.fresh[kind] = fresh
	due := now.Sub(s.rates.written[kind]) >= rateEvery
	if due {
		delete(s.rates.fresh, kind)
		s.rates.written[kind] = now
	}
	s.rates.mu.Unlock()
	if !due {
		return
	}
	if err := s.writeTally(context.WithoutCancel(ctx), kind, fresh, now); err != nil { // it is only a measurement
		s.log.Debug("measured speed is not written", zap.String("kind", kind), zap.Error(err))
	}
}

func (s *Service) writeTally(ctx context.Context, kind string, fresh tally, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for {
		old, revision, err := s.readTally(ctx, kind)
		if err != nil {
			return err
		}
		data, err := json.Marshal(old.add(fresh, now))
		if err != nil {
			return err
		}
		if revision == 0 {
			_, err = s.docs.Create(ctx, rateKey(kind), data)
		} else {
			_, err = s.docs.Update(ctx, rateKey(kind), data, revision)
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		sleep(ctx, jitter(5*time.Millisecond)) // another process wrote; until ctx ends
	}
}

func (s *Service) readTally(ctx context.Context, kind string) (t tally, revision uint64, err error) {
	entry, err := s.docs.Get(ctx, rateKey(kind))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return tally{}, 0, nil
	}
	if err != nil {
		return tally{}, 0, fmt.Errorf("read the speed of %s: %w", kind, err)
	}
	return t, entry.Revision(), json.Unmarshal(entry.Value(), &t)
}

// tally reads what was measured of a kind.
func (s *Service) tally(ctx context.Context, kind string) (tally, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	t, _, err := s.readTally(ctx, kind)
	return t, err
}

// PerUnit is the time that one worker takes for a unit of a kind, as measured lately; 0 when not known yet.
func (s *Service) PerUnit(ctx context.Context, kind string) (time.Duration, error) {
	t, err := s.tally(ctx, kind)
	return time.Duration(t.perUnit() * float64(time.Second)), err
}
