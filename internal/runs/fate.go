package runs

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
)

var (
	// ErrNotFound means that there is no run of that id.
	ErrNotFound = errors.New("no such run")
	// ErrNoQueue means that nothing of that kind was ever submitted or served.
	ErrNoQueue = errors.New("no such queue")
	// ErrRequestMismatch means that the request id was used before, for another payload.
	ErrRequestMismatch = errors.New("the request id was used for another request")
	// ErrQueueFull means that the queue of this kind holds as many shards as it may: try again later.
	ErrQueueFull = errors.New("the queue is full")
	// ErrState means that the state of the run does not allow what was asked.
	ErrState = errors.New("the state of the run does not allow it")
	// ErrQuota means that an owner has as many unfinished runs or shards as it may: try again when some have ended.
	ErrQuota = errors.New("the quota is used up")
	// ErrInvalid means that a Spec, a page token or a page size is none.
	ErrInvalid = errors.New("invalid")
)

// What the context of a task ended with (context.Cause).
var (
	// ErrEnded means that the run was cancelled, or failed in another shard. Nothing of the task is wanted any more.
	ErrEnded = errors.New("the run has ended")
	// ErrFenced means that the queue took this worker for dead and gave its shard to another.
	ErrFenced = errors.New("another worker has the shard")
	// ErrPaused means that the run was paused. The shard goes back without counting an attempt; keep what is done.
	ErrPaused = errors.New("the run is paused")
	// ErrStalled means that the task has not reported anything for Worker.Stall. It counts as an attempt.
	ErrStalled = errors.New("no progress")
)

type retryError struct {
	error
	after time.Duration
}

func (e *retryError) Unwrap() error { return e.error }

// Retry is the fate of a shard that shall be tried again after a while (plus jitter) instead of the usual back-off. It
// counts as an attempt.
func Retry(after time.Duration, err error) error { return &retryError{err, max(after, 0)} }

type dropError struct{ error }

func (e *dropError) Unwrap() error { return e.error }

// Drop is the fate of a run that no further attempt can help: it fails at once.
func Drop(err error) error { return &dropError{err} }

// isDrop says that no further attempt can help: Drop, or a fault that is permanent.
func isDrop(err error) bool {
	var drop *dropError
	return errors.As(err, &drop) || fault.Permanent(err)
}

// isAway says that another service or the queue could not be reached: the work itself was not tried.
func isAway(err error) bool {
	return fault.ReasonOf(err) == fault.Unavailable || unreachable(err) && !errors.Is(err, context.DeadlineExceeded)
}

// isResource says that memory, disk or another limit was exhausted, which takes a while to become free. Native libraries
// say it only in words.
func isResource(err error) bool {
	for _, exhausted := range []error{syscall.ENOSPC, syscall.ENOMEM, syscall.EDQUOT} {
		if errors.Is(err, exhausted) {
			return true
		}
	}
	if fault.ReasonOf(err) == fault.ResourceExhausted {
		return true
	}
	words := strings.ToLower(err.Error())
	return strings.Contains(words, "out of memory") || strings.Contains(words, "failed to allocate memory") || strings.Contains(words, "alloc_failed")
}

// delay is the wait before the next attempt, after so many.
func (c Config) delay(attempt int, err error) time.Duration {
	first, most := c.Backoff, c.MaxBackoff
	if isResource(err) {
		first, most = c.ResourceBackoff, max(10*c.ResourceBackoff, c.MaxBackoff)
	}
	wait := most
	if attempt < 20 { // further doubling would overflow
		wait = min(first<<max(attempt-1, 0), most)
	}
	var known *fault.Error
	if errors.As(err, &known) {
		wait = max(wait, min(known.RetryAfter, 10*most))
	}
	var retry *retryError
	if errors.As(err, &retry) {
		wait = retry.after
	}
	return jitter(wait)
}

// jitter spreads d over [d, 1.5 d), so that what failed together does not come back together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/2)
}
