package runs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// Priority is the class of a run in its queue. The zero value is Normal.
type Priority int

// The classes, those that are served first last.
const (
	Low    Priority = -1
	Normal Priority = 0
	High   Priority = 1
)

// Options say how a run is treated.
type Options struct {
	Priority  Priority          `json:"priority,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`     // for finding it again
	Deadline  time.Time         `json:"deadline,omitzero"`    // it must have ended by then
	TimeLimit time.Duration     `json:"time_limit,omitempty"` // from its start, pauses not counted; 0: none
	After     []string          `json:"after,omitempty"`      // ids of runs that must have succeeded before
}

const (
	maxLabels = 32
	maxAfter  = 64
)

var labelPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]{0,62}$`)

// check reports every problem at once.
func (o Options) check() error {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	require(o.Priority >= Low && o.Priority <= High, "priority %d: want low, normal or high", o.Priority)
	require(len(o.Labels) <= maxLabels, "%d labels: want at most %d", len(o.Labels), maxLabels)
	for name, value := range o.Labels {
		require(labelPattern.MatchString(name), "label %q: want up to 63 of a-z, 0-9, -, _, . and /, the first a letter or digit", name)
		require(len(value) <= maxName, "label %s of %d bytes: want at most %d", name, len(value), maxName)
	}
	require(o.TimeLimit >= 0, "time limit %s: want more than 0", o.TimeLimit)
	require(len(o.After) <= maxAfter, "after %d runs: want at most %d", len(o.After), maxAfter)
	for i, id := range o.After {
		require(idPattern.MatchString(id), "after %q: want the name of a run, runs/ID", id)
		require(!slices.Contains(o.After[:i], id), "after %q: named twice", id)
	}
	return errors.Join(problems...)
}

// OptionsOf reads the options of a request. What is wrong in them, Submit says.
func OptionsOf(p *runv1.RunOptions) Options {
	o := Options{Priority: priorities[p.GetPriority()], Labels: p.GetLabels()}
	if p.GetDeadline() != nil {
		o.Deadline = p.GetDeadline().AsTime()
	}
	if p.GetTimeLimit() != nil {
		if o.TimeLimit = p.GetTimeLimit().AsDuration(); o.TimeLimit == 0 {
			o.TimeLimit = -1 // a limit of nothing is a mistake, not no limit
		}
	}
	for _, name := range p.GetAfter() {
		o.After = append(o.After, strings.TrimPrefix(name, string(ood.Runs)+"/"))
	}
	return o
}

var priorities = map[runv1.Priority]Priority{
	runv1.Priority_PRIORITY_LOW: Low, runv1.Priority_PRIORITY_NORMAL: Normal, runv1.Priority_PRIORITY_HIGH: High,
	runv1.Priority_PRIORITY_UNSPECIFIED: Normal,
}

// Proto is the class as clients see it.
func (p Priority) Proto() runv1.Priority {
	return [...]runv1.Priority{runv1.Priority_PRIORITY_LOW, runv1.Priority_PRIORITY_NORMAL, runv1.Priority_PRIORITY_HIGH}[p+1]
}

// Proto is the options as clients see them.
func (o Options) Proto() *runv1.RunOptions {
	out := &runv1.RunOptions{Priority: o.Priority.Proto(), Labels: o.Labels, Deadline: stamp(o.Deadline)}
	if o.TimeLimit > 0 {
		out.TimeLimit = durationpb.New(o.TimeLimit)
	}
	for _, id := range o.After {
		out.After = append(out.After, ood.Runs.Name(id))
	}
	return out
}
