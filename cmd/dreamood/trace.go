package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dreamood/dreamood/internal/tracefile"
	"github.com/dreamood/dreamood/internal/waterfall"
)

// TraceCmd reads trace files.
type TraceCmd struct {
	List TraceListCmd `cmd:"" help:"List the traces of a file."`
	Show TraceShowCmd `cmd:"" help:"Draw one trace."`
}

// TraceListCmd lists traces.
type TraceListCmd struct {
	File string `arg:"" type:"path" help:"Trace file, as --trace-file writes it."`
}

// TraceShowCmd draws a trace.
type TraceShowCmd struct {
	File  string `arg:"" type:"path" help:"Trace file, as --trace-file writes it."`
	Trace string `placeholder:"ID" help:"The trace, or the beginning of its id (default: the one with the most spans)."`
	Out   string `default:"trace.svg" type:"path" placeholder:"FILE" help:"The picture (default trace.svg)."`
	Title string `placeholder:"TEXT" help:"Title of the picture (default: the name of the first span)."`
}

// Help teaches the command.
func (TraceShowCmd) Help() string {
	return `Draws where the time went, from the client's call over queue and workers to the kernels, as a picture in SVG.
Every process of the mesh, and the client, write to the same file, or to files that are put together with cat:

    dreamood serve --trace-file traces.jsonl
    dreamood imagine outliers --space cifar10 --per-class 8 --trace-file traces.jsonl
    dreamood trace show traces.jsonl --out trace.svg

The client says its trace's id at the end. The logs name it as trace_id.`
}

// traceOf is a trace and when it began.
type traceOf struct {
	id    string
	spans []tracefile.Span
}

// took is the time from the first begin to the last end.
func (t traceOf) took() time.Duration {
	end := t.spans[0].End
	for _, s := range t.spans {
		if s.End.After(end) {
			end = s.End
		}
	}
	return end.Sub(t.spans[0].Start)
}

// readTraces reads a file; the trace that began first comes first.
func readTraces(path string) ([]traceOf, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	spans, err := tracefile.Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var list []traceOf
	index := map[string]int{}
	for _, s := range spans {
		i, ok := index[s.Trace]
		if !ok {
			i = len(list)
			index[s.Trace], list = i, append(list, traceOf{id: s.Trace})
		}
		list[i].spans = append(list[i].spans, s)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no spans", path)
	}
	return list, nil
}

// Run prints a line per trace.
func (c *TraceListCmd) Run(_ context.Context, s *Session) error {
	list, err := readTraces(c.File)
	if err != nil {
		return err
	}
	for _, t := range list {
		first := t.spans[0]
		if s.json() {
			err = json.NewEncoder(s.Out).Encode(map[string]any{"trace": t.id, "start": first.Start, "seconds": t.took().Seconds(), "spans": len(t.spans), "name": first.Name})
		} else {
			s.say("%s  %s  %8s  %5d spans  %s", t.id, first.Start.Local().Format("2006-01-02 15:04:05"), t.took().Round(time.Millisecond), len(t.spans), first.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Run draws.
func (c *TraceShowCmd) Run(_ context.Context, s *Session) error {
	list, err := readTraces(c.File)
	if err != nil {
		return err
	}
	if c.Trace != "" {
		list = slices.DeleteFunc(list, func(t traceOf) bool { return len(t.id) < len(c.Trace) || t.id[:len(c.Trace)] != c.Trace })
		if len(list) != 1 {
			return usage("--trace %s: %d traces of %s begin so; `dreamood trace list %s` names them", c.Trace, len(list), c.File, c.File)
		}
	}
	t := slices.MaxFunc(list, func(a, b traceOf) int { return len(a.spans) - len(b.spans) })
	title := or(c.Title, t.spans[0].Name)
	var picture bytes.Buffer
	if err := waterfall.SVG(&picture, title, t.spans); err != nil {
		return err
	}
	if err := os.WriteFile(c.Out, picture.Bytes(), 0o644); err != nil {
		return err
	}
	s.say("%s: %d spans of trace %s", c.Out, len(t.spans), t.id)
	return nil
}
