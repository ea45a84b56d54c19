package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

const (
	shortestWait = 200 * time.Millisecond // before a lost connection is tried again; doubles up to
	longestWait  = 5 * time.Second
	patience     = 2 * time.Minute // without an event, then following gives up; the run itself goes on
)

// follower watches one run until it has ended, over as many connections as that takes.
type follower struct {
	runs  runv1.RunServiceClient
	name  string // of the run
	after uint64 // sequence number of the last event seen
	show  *progress
	known bool                                // the run is known to exist, so even a first connection that fails is tried again
	each  func(*runv1.WatchRunResponse) error // sees every event; may be nil

	run *runv1.Run // in its final state; nil when it could not be followed
	err error      // why not
}

// update is an event, the news that the connection is lost, or the end of a watch.
type update struct {
	of    *follower
	event *runv1.WatchRunResponse
	lost  error
	over  error
}

// followAll follows runs until all have ended or cannot be followed any more, and calls ended for each. It fails with
// ctx's error when ctx ends first.
func followAll(ctx context.Context, followers []*follower, ended func(*follower)) error {
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan update)
	var group sync.WaitGroup
	for _, f := range followers {
		group.Go(func() {
			over := f.watch(ctx, updates)
			select {
			case updates <- update{of: f, over: over}:
			case <-ctx.Done():
			}
		})
	}
	defer func() {
		cancel()
		group.Wait()
		for _, f := range followers {
			f.show.close()
		}
	}()
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for open := len(followers); open > 0; {
		select {
		case u := <-updates:
			if u.of.take(u) {
				open--
				u.of.show.close()
				ended(u.of)
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-clock.C:
			for _, f := range followers {
				f.show.tick()
			}
		}
	}
	return nil
}

// take shows an update; it says whether that was the last one.
func (f *follower) take(u update) bool {
	switch {
	case f.run != nil || f.err != nil: // what comes after the end
		return false
	case u.over != nil:
		f.err = u.over
		return true
	case u.lost != nil:
		f.show.note("connection lost (%s); trying again", brief(u.lost))
		return false
	}
	run := u.event.GetRun()
	f.show.show(standingOf(run))
	if f.each != nil {
		if f.err = f.each(u.event); f.err != nil {
			return true
		}
	}
	if final(run) {
		f.run = run
	}
	return f.run != nil
}

// errFinal ends the watch of a run that has ended.
var errFinal = errors.New("the run has ended")

// watch sends events to updates until the final one, ctx ends or the server refuses. It connects again from the last
// event where the connection breaks, but not where there never was one.
func (f *follower) watch(ctx context.Context, updates chan<- update) error {
	name, after := f.name, f.after
	send := func(u update) error {
		u.of = f
		select {
		case updates <- u:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	wait, heard, connected := shortestWait, time.Now(), f.known
	for {
		err := f.stream(ctx, name, after, func(event *runv1.WatchRunResponse) error {
			if after < event.Sequence {
				after = event.Sequence
			}
			wait, heard, connected = shortestWait, time.Now(), true
			if err := send(update{event: event}); err != nil {
				return err
			}
			if final(event.GetRun()) {
				return errFinal
			}
			return nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !passing(err) || !connected && !errors.Is(err, errEnded) {
			return err
		}
		if time.Since(heard) > patience {
			return fmt.Errorf("follow %s: nothing heard for %s; the run itself goes on: %w", name, span(patience), err)
		}
		if wait == shortestWait {
			if err := send(update{lost: err}); err != nil {
				return err
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, longestWait)
	}
}

// errEnded says that a server closed a stream of events before the run had ended, as one does that stops.
var errEnded = errors.New("the server closed the stream")

// stream hands the events of one connection to take. A stream that ends without a final event is asked about: the
// run may have ended before the sequence number that it was opened with.
func (f *follower) stream(ctx context.Context, name string, after uint64, take func(*runv1.WatchRunResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := f.runs.WatchRun(ctx, &runv1.WatchRunRequest{Name: name, AfterSequence: after})
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			got, err := f.runs.GetRun(ctx, &runv1.GetRunRequest{Name: name})
			if err != nil {
				return err
			}
			if final(got.GetRun()) {
				return take(&runv1.WatchRunResponse{Sequence: after, Run: got.GetRun()})
			}
			return errEnded
		}
		if err != nil {
			return err
		}
		if err := take(event); err != nil {
			return err
		}
	}
}

// passing reports whether trying again may help: the server is away, or it gave up the call as it stops.
func passing(err error) bool {
	switch fault.ReasonOf(err) {
	case fault.Unavailable, fault.Cancelled:
		return true
	}
	return errors.Is(err, errEnded)
}

// final reports whether a run has ended.
func final(run *runv1.Run) bool {
	switch run.GetState() {
	case runv1.RunState_RUN_STATE_SUCCEEDED, runv1.RunState_RUN_STATE_FAILED, runv1.RunState_RUN_STATE_CANCELLED:
		return true
	}
	return false
}

func standingOf(run *runv1.Run) standing {
	p := run.GetProgress()
	message := p.GetMessage()
	switch before := run.GetWaitingFor(); {
	case run.GetState() == runv1.RunState_RUN_STATE_PAUSED:
		message = "paused"
	case len(before) > 0:
		message = "waiting for " + strings.Join(before, ", ")
	}
	return standing{
		what:    run.GetKind() + " " + run.GetTarget(),
		waiting: run.GetState() == runv1.RunState_RUN_STATE_PENDING,
		done:    p.GetDone(), total: p.GetTotal(), unit: p.GetUnit(), message: message,
	}
}
