package telemetry

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// received are the exports that a collector takes.
type received struct {
	collector.UnimplementedTraceServiceServer
	exports chan *collector.ExportTraceServiceRequest
}

func (r received) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.exports <- q
	return &collector.ExportTraceServiceResponse{}, nil
}

func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
}

// TestExport sends spans to a collector as the environment says, under the name that it gives.
func TestExport(t *testing.T) {
	clearEnvironment(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := received{exports: make(chan *collector.ExportTraceServiceRequest, 10)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Stop(); <-served }()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	tracing, err := StartTracing(t.Context(), TracingConfig{Service: "generator"})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.Provider().Tracer("test").Start(t.Context(), "one")
	span.End()
	if err := tracing.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case q := <-r.exports:
		name := ""
		for _, kv := range q.ResourceSpans[0].Resource.Attributes {
			if kv.Key == "service.name" {
				name = kv.Value.GetStringValue()
			}
		}
		if got := q.ResourceSpans[0].ScopeSpans[0].Spans[0].Name; got != "one" || name != "mine" {
			t.Errorf("span %q of service %q", got, name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was exported")
	}
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		environment map[string]string
		file        bool
		on          bool
		refused     string
	}{
		"nothing":           {},
		"a file":            {file: true, on: true},
		"an endpoint":       {environment: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, on: true},
		"disabled":          {environment: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}},
		"none":              {environment: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}},
		"another protocol":  {environment: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, refused: "grpc"},
		"another exporter":  {environment: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, refused: "zipkin"},
		"a folder in place": {environment: map[string]string{"FILE": "."}, refused: "trace file"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			for key, value := range c.environment {
				t.Setenv(key, value)
			}
			cfg := TracingConfig{Service: "s", File: c.environment["FILE"]}
			if c.file {
				cfg.File = filepath.Join(t.TempDir(), "traces.jsonl")
			}
			tracing, err := StartTracing(t.Context(), cfg)
			switch {
			case c.refused != "":
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("started: %v", err)
				}
			case err != nil || (tracing.Provider() != nil) != c.on:
				t.Errorf("on %v, %v; want %v", tracing.Provider() != nil, err, c.on)
			}
			if err == nil {
				if err := tracing.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
