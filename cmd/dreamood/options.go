package main

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// RunFlags say how a run is treated.
type RunFlags struct {
	Priority  string        `group:"run" default:"" enum:",low,normal,high" placeholder:"CLASS" field:"options.priority" help:"Class in the queue: low, normal or high (default normal). A run that waits moves up by one class every 10 minutes."`
	Label     []pair        `group:"run" sep:"none" field:"options.labels" placeholder:"NAME=VALUE" help:"Label to find the run by (runs list --label); repeatable."`
	Deadline  moment        `group:"run" field:"options.deadline" placeholder:"TIME" help:"When it must have ended: 2026-11-24T18:00:00Z, or a time from now such as 90m. After it the run fails."`
	TimeLimit time.Duration `group:"run" field:"options.time_limit" placeholder:"DURATION" help:"How long it may take from its start, such as 2h, pauses not counted. Beyond it the run fails."`
	After     []string      `group:"run" sep:"," field:"options.after" placeholder:"RUN" help:"Run that must have succeeded before; what it makes may be named in this request. Repeatable."`
}

// message is the flags as the server takes them; nil where none is set.
func (f RunFlags) message() (*runv1.RunOptions, error) {
	o := &runv1.RunOptions{Priority: priorityOf(f.Priority), Labels: byKey(f.Label)}
	if !f.Deadline.IsZero() {
		o.Deadline = timestamppb.New(f.Deadline.Time)
	}
	if f.TimeLimit != 0 {
		o.TimeLimit = durationpb.New(f.TimeLimit)
	}
	for _, run := range f.After {
		name, err := resource(ood.Runs, run)
		if err != nil {
			return nil, err
		}
		o.After = append(o.After, name)
	}
	if o.Priority == 0 && len(o.Labels) == 0 && o.Deadline == nil && o.TimeLimit == nil && len(o.After) == 0 {
		return nil, nil
	}
	return o, nil
}

// priorityOf is the class that a word names; none for "".
func priorityOf(word string) runv1.Priority {
	return runv1.Priority(runv1.Priority_value["PRIORITY_"+strings.ToUpper(word)])
}

// wordOf is the class in a word.
func wordOf(p runv1.Priority) string {
	if p == runv1.Priority_PRIORITY_UNSPECIFIED {
		p = runv1.Priority_PRIORITY_NORMAL
	}
	return strings.ToLower(strings.TrimPrefix(p.String(), "PRIORITY_"))
}

// moment is a point in time, given as such or as a duration from now.
type moment struct{ time.Time }

// UnmarshalText reads RFC 3339 or a duration.
func (m *moment) UnmarshalText(text []byte) error {
	if d, err := time.ParseDuration(string(text)); err == nil {
		if d <= 0 {
			return fmt.Errorf("%q is not in the future", text)
		}
		m.Time = time.Now().Add(d)
		return nil
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is neither a time (2026-11-24T18:00:00Z) nor a duration (90m)", text)
	}
	m.Time = at
	return nil
}
