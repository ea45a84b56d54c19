package tracefile

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Writer appends spans to a file. It is a span exporter.
type Writer struct {
	mu   sync.Mutex
	file *os.File
}

// Create opens the file, and makes it where it is missing.
func Create(path string) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("trace file: %w", err)
	}
	return &Writer{file: file}, nil
}

// ExportSpans writes a batch as one line, in one write, so that lines of several processes do not mix.
func (w *Writer) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	text, err := json.Marshal(group(spans))
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.file.Write(append(text, '\n'))
	return err
}

// Shutdown closes the file.
func (w *Writer) Shutdown(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.file.Close()
}

// group orders spans by resource and scope, in the order in which those come.
func group(spans []sdk.ReadOnlySpan) line {
	var out line
	resources := map[attribute.Distinct]int{}
	type scoped struct {
		resource int
		scope    instrumentation.Scope
	}
	scopes := map[scoped]int{}
	for _, s := range spans {
		r, ok := resources[s.Resource().Equivalent()]
		if !ok {
			r = len(out.ResourceSpans)
			resources[s.Resource().Equivalent()] = r
			out.ResourceSpans = append(out.ResourceSpans, resourceSpans{})
			out.ResourceSpans[r].Resource.Attributes = attributes(s.Resource().Attributes())
		}
		of := &out.ResourceSpans[r]
		key := scoped{r, s.InstrumentationScope()}
		i, ok := scopes[key]
		if !ok {
			i = len(of.ScopeSpans)
			scopes[key] = i
			of.ScopeSpans = append(of.ScopeSpans, scopeSpans{})
			of.ScopeSpans[i].Scope.Name, of.ScopeSpans[i].Scope.Version = key.scope.Name, key.scope.Version
		}
		of.ScopeSpans[i].Spans = append(of.ScopeSpans[i].Spans, encode(s))
	}
	return out
}
