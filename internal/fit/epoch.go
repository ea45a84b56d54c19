package fit

import (
	"context"
	"time"

	"github.com/dreamood/dreamood/internal/stage"
)

// epochClock reports every epoch as one stage, with its steps and the time in them; the rest is waiting for pictures and
// writing check-points. The first one after a restart is what was left of it.
type epochClock struct {
	ctx  context.Context
	size int64 // steps of one

	end   func(count int64, busy time.Duration) // nil between two
	steps int64
	busy  time.Duration
}

// begin comes before every step.
func (e *epochClock) begin() {
	if e.end == nil {
		e.end, e.steps, e.busy = stage.Begin(e.ctx, "epoch"), 0, 0
	}
}

// stepped comes after every step, the step'th of the training, counted from 1.
func (e *epochClock) stepped(step int64, took time.Duration) {
	e.steps, e.busy = e.steps+1, e.busy+took
	if step%e.size == 0 {
		e.end(e.steps, e.busy)
		e.end = nil
	}
}
