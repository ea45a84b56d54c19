package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	show  *progress
	known bool                                // the run is known to exist, so even a first connection that fails is tried again
	each  func(*runv1.WatchRunResponse) error // sees every event; may be nil
}

// follow returns the run in its final state. It fails with ctx's error when ctx ends first, and with what the
// server said when it refuses or stays away.
func (f *follower) follow(ctx context.Context, name string, after uint64) (*runv1.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	updates, ended := make(chan update), make(chan error, 1)
	go func() { ended <- f.watch(ctx, name, after, updates) }()
	watching := true
	defer func() {
		cancel()
		if watching {
			<-ended
		}
		f.show.close()
	}()
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case u := <-updates:
			if u.lost != nil {
				f.show.note("connection lost (%s); trying again", brief(u.lost))
				continue
			}
			if run, err := f.take(u.event); run != nil || err != nil {
				return run, err
			}
		case err := <-ended:
			watching = false
			return nil, err
		case <-clock.C:
			f.show.tick()
		}
	}
}

// take shows an event; it returns the run when that was the last one.
func (f *follower) take(event *runv1.WatchRunResponse) (*runv1.Run, error) {
	run := event.GetRun()
	f.show.show(standingOf(run))
	if f.each != nil {
		if err := f.each(event); err != nil {
			return nil, err
		}
	}
	if final(run) {
		return run, nil
	}
	return nil, nil
}

// update is an event, or the news that the connection is lost.
type update struct {
	event *runv1.WatchRunResponse
	lost  error
}

// watch sends the events after a sequence number to updates until ctx ends or the server refuses. It connects again
// from the last event where the connection breaks, but not where there never was one.
func (f *follower) watch(ctx context.Context, name string, after uint64, updates chan<- update) error {
	send := func(u update) error {
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
			return send(update{event: event})
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
	return standing{
		what:    run.GetKind() + " " + run.GetTarget(),
		waiting: run.GetState() == runv1.RunState_RUN_STATE_PENDING,
		done:    p.GetDone(), total: p.GetTotal(), unit: p.GetUnit(), message: p.GetMessage(),
	}
}
