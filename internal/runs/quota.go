package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// creationWait is how long a run that was counted may take to be created; after it the count is a leftover.
	creationWait = time.Minute
	// manyHoldings is how many runs are counted before those that have ended are looked for, quota or not.
	manyHoldings = 256
)

// holdings are the runs that count against an owner's quotas, with the shards that they had left when they were last
// looked at: an upper bound. They are one document, "owner.<owner key>", changed by compare-and-set, so that two
// submissions at the same time do not both get the last place. Nothing is written when a run ends: what has ended is
// looked for when the quota seems used up.
type holdings struct {
	Runs map[string]int `json:"runs"`
}

func (h holdings) shards() (sum int) {
	for _, n := range h.Runs {
		sum += n
	}
	return sum
}

// charge counts a run of so many shards against the quotas of its owner: ErrQuota when they are used up, ErrInvalid
// when it is too large for them at any time. Charged twice it counts once.
func (s *Service) charge(ctx context.Context, owner, id string, shards int) error {
	most := s.cfg.QuotaShards
	if most == 0 && s.cfg.QuotaRuns == 0 {
		return nil
	}
	if most > 0 && shards > most {
		return fmt.Errorf("%w run: %d shards, and the quota of an owner is %d; split it", ErrInvalid, shards, most)
	}
	for {
		err := s.chargeOnce(ctx, owner, id, shards)
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sleep(ctx, jitter(2*time.Millisecond))
	}
}

func (s *Service) chargeOnce(ctx context.Context, owner, id string, shards int) error {
	key := "owner." + ownerKey(owner)
	held, revision, err := s.holdings(ctx, key, owner)
	if err != nil {
		return err
	}
	if _, ok := held.Runs[id]; ok {
		return nil
	}
	if s.exceeded(owner, held, shards) != nil || len(held.Runs) >= manyHoldings {
		if err := s.settleHoldings(ctx, held); err != nil {
			return err
		}
		if err := s.exceeded(owner, held, shards); err != nil {
			return err
		}
	}
	held.Runs[id] = shards
	data, err := json.Marshal(held)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	if revision == 0 {
		_, err = s.docs.Create(ctx, key, data)
	} else {
		_, err = s.docs.Update(ctx, key, data, revision)
	}
	if err != nil {
		return fmt.Errorf("write the holdings of %q: %w", owner, err)
	}
	return nil
}

// holdings reads what an owner has; where that was never written, from the runs themselves.
func (s *Service) holdings(ctx context.Context, key, owner string) (holdings, uint64, error) {
	h := holdings{Runs: map[string]int{}}
	ask, cancel := context.WithTimeout(ctx, askWait)
	value, revision, err := s.read(ask, key)
	cancel()
	switch {
	case err == nil:
		err = json.Unmarshal(value, &h)
		if h.Runs == nil {
			h.Runs = map[string]int{}
		}
		return h, revision, err
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return h, 0, fmt.Errorf("read the holdings of %q: %w", owner, err)
	}
	open, err := s.unfinished(ctx)
	if err != nil {
		return h, 0, err
	}
	for _, run := range open {
		if run.Owner == owner {
			h.Runs[run.ID] = run.ShardCount - run.ShardsDone
		}
	}
	return h, 0, nil
}

// settleHoldings brings the counts up to date with the runs.
func (s *Service) settleHoldings(ctx context.Context, h holdings) error {
	for id := range h.Runs {
		run, err := s.load(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
			if s.now().Sub(timeOf(id)) > creationWait {
				delete(h.Runs, id)
			}
		case err != nil:
			return err
		case run.State.Terminal():
			delete(h.Runs, id)
		default:
			h.Runs[id] = run.ShardCount - run.ShardsDone
		}
	}
	return nil
}

// exceeded is ErrQuota, with the numbers, when so many more shards in one more run are too many.
func (s *Service) exceeded(owner string, h holdings, shards int) error {
	if owner == "" {
		owner = "clients without a name"
	}
	var used []string
	if most := s.cfg.QuotaRuns; most > 0 && len(h.Runs) >= most {
		used = append(used, fmt.Sprintf("%d of %d runs have not ended", len(h.Runs), most))
	}
	if most := s.cfg.QuotaShards; most > 0 && h.shards()+shards > most {
		used = append(used, fmt.Sprintf("%d of %d shards are not done, and %d more do not fit", h.shards(), most, shards))
	}
	if used == nil {
		return nil
	}
	return fmt.Errorf("quota of %s: %s; wait for some to end, or cancel them: %w", owner, strings.Join(used, "; "), ErrQuota)
}
