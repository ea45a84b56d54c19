package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunsQueueCmd shows the queues.
type RunsQueueCmd struct {
	Kind string `default:"" enum:",train-space,sample-set,render-set,train-detector,evaluate-detector" field:"kind" help:"Only this kind."`
}

// Help teaches the command.
func (RunsQueueCmd) Help() string {
	return `Each kind of run has a queue of shards. LANE is one owner's part of it in one priority class, in the order in which lanes
are served now: by class (one class up per 10 minutes waited), then the owner with the fewest shards under way, then
age. SPEED is what one worker does, measured.

    dreamood runs queue
    dreamood runs queue --kind render-set --output json`
}

// Run shows the queues.
func (c *RunsQueueCmd) Run(ctx context.Context, s *Session) error {
	runs, err := client(s, runv1.NewRunServiceClient)
	if err != nil {
		return err
	}
	got, err := runs.DescribeQueue(ctx, &runv1.DescribeQueueRequest{Kind: c.Kind})
	if err != nil {
		return err
	}
	var t table
	t.row("KIND", "LANE", "WAITING", "IN FLIGHT", "OLDEST", "SPEED")
	for _, q := range got.GetQueues() {
		if s.json() {
			if err := s.object(q); err != nil {
				return err
			}
			continue
		}
		speed := "-"
		if q.GetUnitsPerSecond() > 0 {
			speed = fmt.Sprintf("%.3g %s/s", q.GetUnitsPerSecond(), unitOf[q.GetKind()])
		}
		t.row(q.GetKind(), "all", q.GetWaiting(), q.GetInFlight(), waitedFor(q.GetOldest()), speed)
		for _, lane := range q.GetLanes() {
			name := wordOf(lane.GetPriority())
			if lane.GetOwner() != "" {
				name += " " + lane.GetOwner()
			}
			t.row("", name, lane.GetWaiting(), lane.GetInFlight(), waitedFor(lane.GetOldest()), "")
		}
	}
	if !s.json() {
		t.print(s.Out)
	}
	return nil
}

// unitOf is the unit of progress of each kind.
var unitOf = map[string]string{
	"train-space": "steps", "sample-set": "embeddings", "render-set": "pictures", "train-detector": "steps", "evaluate-detector": "sets",
}

// waitedFor is a time in a queue, or a dash where nothing waits.
func waitedFor(d *durationpb.Duration) string {
	if d == nil || d.AsDuration() <= 0 {
		return "-"
	}
	return span(d.AsDuration())
}
