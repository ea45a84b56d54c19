package tracefile

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// record writes a parent and a child of one process.
func record(t *testing.T, path, process string) trace.SpanContext {
	t.Helper()
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(w), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", process))))
	ctx, parent := provider.Tracer("scope").Start(context.Background(), "parent", trace.WithSpanKind(trace.SpanKindClient))
	_, child := provider.Tracer("scope").Start(ctx, "child", trace.WithLinks(trace.LinkFromContext(ctx)), trace.WithAttributes(
		attribute.Int("n", 7), attribute.Bool("b", true), attribute.Float64("f", 0.5), attribute.StringSlice("list", []string{"a", "b"})))
	child.AddEvent("event", trace.WithAttributes(attribute.String("why", `a "quoted" word`)))
	child.SetStatus(codes.Error, "broke")
	child.End()
	parent.SetStatus(codes.Ok, "")
	parent.End()
	if err := provider.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return parent.SpanContext()
}

// TestSharedFile: two processes write one file at the same time, and all of it is read.
func TestSharedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces.jsonl")
	var group sync.WaitGroup
	roots := make([]trace.SpanContext, 2)
	for i, process := range []string{"one", "two"} {
		group.Go(func() { roots[i] = record(t, path, process) })
	}
	group.Wait()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	spans, err := Read(file)
	if err != nil || len(spans) != 4 {
		t.Fatalf("%d spans, %v", len(spans), err)
	}
	for _, s := range spans {
		root := roots[map[string]int{"one": 0, "two": 1}[s.Process]]
		switch {
		case s.Trace != root.TraceID().String() || s.End.Before(s.Start):
			t.Errorf("%+v", s)
		case s.Name == "parent" && (s.Parent != "" || s.ID != root.SpanID().String() || s.Kind != 3 || s.Failed):
			t.Errorf("parent %+v", s)
		case s.Name == "child" && (s.Parent != root.SpanID().String() || !s.Failed || s.Kind != 1 || s.Attributes["n"] != "7" || s.Attributes["list"] == ""):
			t.Errorf("child %+v", s)
		}
	}
}

// TestProtocol reads the file with the protocol's own messages: every field is known, and has the right form.
func TestProtocol(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces.jsonl")
	root := record(t, path, "one")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	idsToBase64(t, doc) // the one point in which OTLP's JSON differs from protobuf's
	text, _ = json.Marshal(doc)
	var data tracepb.TracesData
	if err := protojson.Unmarshal(text, &data); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	spans := data.ResourceSpans[0].ScopeSpans[0].Spans
	child, parent := spans[0], spans[1]
	id := root.SpanID()
	if string(child.ParentSpanId) != string(id[:]) || child.Status.Code != tracepb.Status_STATUS_CODE_ERROR || child.Status.Message != "broke" ||
		parent.Status.Code != tracepb.Status_STATUS_CODE_OK || parent.Kind != tracepb.Span_SPAN_KIND_CLIENT ||
		child.Attributes[0].GetValue().GetIntValue() != 7 || child.Events[0].Name != "event" || string(child.Links[0].SpanId) != string(id[:]) ||
		child.StartTimeUnixNano == 0 || child.EndTimeUnixNano < child.StartTimeUnixNano {
		t.Errorf("parent %v\nchild %v", parent, child)
	}
}

func idsToBase64(t *testing.T, doc any) {
	t.Helper()
	switch doc := doc.(type) {
	case []any:
		for _, e := range doc {
			idsToBase64(t, e)
		}
	case map[string]any:
		for key, v := range doc {
			if text, ok := v.(string); ok && (key == "traceId" || key == "spanId" || key == "parentSpanId") {
				raw, err := hex.DecodeString(text)
				if err != nil {
					t.Errorf("%s %q is not hexadecimal", key, text)
				}
				doc[key] = base64.StdEncoding.EncodeToString(raw)
			} else {
				idsToBase64(t, v)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":    "spans",
		"no times":   `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"a","spanId":"b"}]}]}]}`,
		"no ids":     `{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`,
		"other form": `{"resourceSpans":7}`,
	} {
		if _, err := Read(strings.NewReader("\n" + text)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
