package generator

import (
	"errors"
	"time"

	"github.com/dreamood/dreamood/internal/engine"
	"github.com/dreamood/dreamood/internal/fault"
)

// passing says that an error is none of the request: the engine process ended under it. A run takes that as a failed
// attempt and tries again, since the next process may do the work; runs.MaxAttempts ends what no process survives.
func passing(err error) bool {
	var crash *engine.CrashError
	return errors.As(err, &crash)
}

// restart is about how long the next engine process takes to come.
const restart = 2 * time.Second

// answer is an error as callers get it: a crash is UNAVAILABLE, and they may try again.
func answer(err error) error {
	if !passing(err) || fault.ReasonOf(err) != fault.Internal {
		return err
	}
	return &fault.Error{Reason: fault.Unavailable, Message: err.Error(), RetryAfter: restart, Err: err}
}
