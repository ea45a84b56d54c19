// Package stage lets long work say how long its parts take, without knowing who listens: the method calls Begin, and
// whoever started the work has put a listener into its context.
package stage

import (
	"context"
	"time"
)

// Part is a part of some work that has ended.
type Part struct {
	Name       string // snake_case; a handful of names in the whole program, since metrics have it as a label
	Begin, End time.Time
	Count      int64         // of what it did: pictures, steps; 0 when that says nothing
	Busy       time.Duration // of it, in the native engine; 0 when that was not measured
}

type key struct{}

// Listen returns a context under which Begin reports to listener, which is called when a part ends, from the goroutine
// that worked; it must not block.
func Listen(ctx context.Context, listener func(Part)) context.Context {
	return context.WithValue(ctx, key{}, listener)
}

// Begin begins a part and returns what ends it. Without a listener that does nothing. A part that is not ended, because
// the work failed, is not reported.
func Begin(ctx context.Context, name string) (end func(count int64, busy time.Duration)) {
	listener, ok := ctx.Value(key{}).(func(Part))
	if !ok {
		return func(int64, time.Duration) {}
	}
	begin := time.Now()
	return func(count int64, busy time.Duration) {
		listener(Part{Name: name, Begin: begin, End: time.Now(), Count: count, Busy: busy})
	}
}

// Heard says whether anybody listens.
func Heard(ctx context.Context) bool { return ctx.Value(key{}) != nil }

// Tell reports a part that another process has measured.
func Tell(ctx context.Context, p Part) {
	if listener, ok := ctx.Value(key{}).(func(Part)); ok {
		listener(p)
	}
}
