package tracefile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// maxLine and maxSpans bound what is read.
const (
	maxLine  = 64 << 20
	maxSpans = 200_000
)

// Span is a span as it was read.
type Span struct {
	Trace, ID, Parent string // hexadecimal; Parent is empty for a root
	Name, Process     string // Process is the resource's service.name
	Instance          string // tells processes of one name apart
	Kind              int    // 1 internal, 2 server, 3 client, 4 producer, 5 consumer
	Start, End        time.Time
	Failed            bool
	Attributes        map[string]string
}

// Read returns the spans of all lines, by their start.
func Read(r io.Reader) ([]Span, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var out []Span
	for n := 1; lines.Scan(); n++ {
		var l line
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w; want one object of the OpenTelemetry protocol in JSON", n, err)
		}
		spans, err := l.spans()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if out = append(out, spans...); len(out) > maxSpans {
			return nil, fmt.Errorf("more than %d spans; cut the file", maxSpans)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return out, nil
}

func (l line) spans() ([]Span, error) {
	var out []Span
	for _, r := range l.ResourceSpans {
		about := texts(r.Resource.Attributes)
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				start, err1 := instant(s.Start)
				end, err2 := instant(s.End)
				if err := errors.Join(err1, err2); err != nil || s.TraceID == "" || s.SpanID == "" {
					return nil, fmt.Errorf("span %q: no ids or no times: %v", s.Name, err)
				}
				out = append(out, Span{
					Trace: s.TraceID, ID: s.SpanID, Parent: s.ParentID, Name: s.Name, Kind: s.Kind,
					Process: about["service.name"], Instance: about["service.instance.id"],
					Start: start, End: end, Failed: s.Status.Code == 2, Attributes: texts(s.Attributes),
				})
			}
		}
	}
	return out, nil
}

func instant(nanos string) (time.Time, error) {
	n, err := strconv.ParseInt(nanos, 10, 64)
	return time.Unix(0, n).UTC(), err
}

func texts(list []keyValue) map[string]string {
	out := make(map[string]string, len(list))
	for _, kv := range list {
		switch v := kv.Value; {
		case v.String != nil:
			out[kv.Key] = *v.String
		case v.Int != nil:
			out[kv.Key] = *v.Int
		case v.Double != nil:
			out[kv.Key] = strconv.FormatFloat(*v.Double, 'g', 6, 64)
		case v.Bool != nil:
			out[kv.Key] = strconv.FormatBool(*v.Bool)
		}
	}
	return out
}
