package runs

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
)

func TestQuotaOfRuns(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.QuotaRuns = 2
	s := mesh(t, cfg)
	first := submit(t, s, Spec{Owner: "ann", RequestID: "first"})
	submit(t, s, Spec{Owner: "ann", Kind: "other"})
	third := Spec{Kind: "dream", Owner: "ann", RequestID: "third"}
	_, _, err := s.Submit(t.Context(), third)
	if !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "2 of 2 runs") {
		t.Fatalf("a third run of two: %v", err)
	}
	var f *fault.Error
	if !errors.As(Fault(err), &f) || f.Reason != fault.ResourceExhausted || f.RetryAfter == 0 {
		t.Errorf("as clients see it: %+v", f)
	}
	if again, created, err := s.Submit(t.Context(), Spec{Kind: "dream", Owner: "ann", RequestID: "first"}); err != nil || created || again.ID != first.ID {
		t.Errorf("the same request again: %v, %v", created, err)
	}
	submit(t, s, Spec{Owner: "bob"})
	if _, err := s.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	submit(t, s, third)
	if _, err := s.Retry(t.Context(), first.ID); !errors.Is(err, ErrQuota) {
		t.Errorf("a retry beyond the quota: %v", err)
	}
}

func TestQuotaOfShards(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.QuotaShards = 5
	s := mesh(t, cfg)
	if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Shards: 6}); !errors.Is(err, ErrInvalid) {
		t.Errorf("what never fits: %v", err)
	}
	submit(t, s, Spec{Shards: 3, Target: "a"})
	submit(t, s, Spec{Shards: 2, Target: "b"})
	if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream"}); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "5 of 5 shards") {
		t.Errorf("a sixth shard: %v", err)
	}
	workOff(t, s, 5)
	submit(t, s, Spec{Shards: 5})
}

// TestQuotaTogether submits from two processes at the same time.
func TestQuotaTogether(t *testing.T) {
	t.Parallel()
	cfg := fast
	cfg.QuotaRuns = 4
	b := openBus(t, t.TempDir())
	var accepted, refused atomic.Int32
	var group sync.WaitGroup
	for range 2 {
		s := newService(t, b, cfg)
		for range 6 {
			group.Go(func() {
				switch _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Owner: "ann"}); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, ErrQuota):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	if accepted.Load() != 4 || refused.Load() != 8 {
		t.Errorf("%d accepted, %d refused; want 4 and 8", accepted.Load(), refused.Load())
	}
}

// TestQuotaCountsWhatWasThere turns a quota on over runs that were never counted, and meets one that was counted and
// never made.
func TestQuotaCountsWhatWasThere(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	submit(t, s, Spec{Owner: "ann"})
	cfg := fast
	cfg.QuotaRuns = 2
	s = newService(t, b, cfg)
	if err := s.charge(t.Context(), "ann", newID(time.Now()), 1); err != nil { // and dies
		t.Fatal(err)
	}
	if _, _, err := s.Submit(t.Context(), Spec{Kind: "dream", Owner: "ann"}); !errors.Is(err, ErrQuota) {
		t.Errorf("with one run that was there and one about to be created: %v", err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * creationWait) }
	submit(t, s, Spec{Owner: "ann"})
}
