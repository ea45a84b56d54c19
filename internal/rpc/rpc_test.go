package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type runs struct {
	runv1.UnimplementedRunServiceServer
	get func(context.Context, *runv1.GetRunRequest) (*runv1.GetRunResponse, error)
}

func (r runs) GetRun(ctx context.Context, q *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
	return r.get(ctx, q)
}

func (r runs) WatchRun(q *runv1.WatchRunRequest, stream runv1.RunService_WatchRunServer) error {
	if q.Name == "runs/endless" {
		if err := stream.Send(&runv1.WatchRunResponse{Sequence: 1}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	if q.Name == "runs/refused" {
		return status.Error(codes.Canceled, "not today")
	}
	return fault.New(fault.NotFound, "no run")
}

// TestGivenUpIsNoFailure: the span of a stream that its reader has given up has no error; those that the server ended
// with one have, also where it says CANCELLED.
func TestGivenUpIsNoFailure(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	s := NewServer(Config{DrainTimeout: time.Second}, zaptest.NewLogger(t))
	runv1.RegisterRunServiceServer(s, runs{})
	l := NewLocal()
	s.Start(l)
	conn, err := l.Dial(Traced(sdk.NewTracerProvider(sdk.WithSyncer(spans))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); s.Stop(); <-s.Done() })
	for _, c := range []struct {
		name, code string
		status     otelcodes.Code
	}{{"runs/endless", "CANCELLED", otelcodes.Unset}, {"runs/none", "NOT_FOUND", otelcodes.Error}, {"runs/refused", "CANCELLED", otelcodes.Error}} {
		spans.Reset()
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := runv1.NewRunServiceClient(conn).WatchRun(ctx, &runv1.WatchRunRequest{Name: c.name})
		for err == nil {
			if _, err = stream.Recv(); err == nil {
				cancel() // enough seen
			}
		}
		cancel()
		got := spans.GetSpans()
		if len(got) != 1 || got[0].Status.Code != c.status || !slices.Contains(got[0].Attributes, attribute.String("rpc.response.status_code", c.code)) {
			t.Errorf("%s: spans %+v; want one with status %s and code %s", c.name, got, c.status, c.code)
		}
	}
}

func TestStopEndsFollowersAtOnce(t *testing.T) {
	s := NewServer(Config{DrainTimeout: time.Minute, Followers: []string{runv1.RunService_WatchRun_FullMethodName}}, zaptest.NewLogger(t))
	runv1.RegisterRunServiceServer(s, runs{})
	l := NewLocal()
	s.Start(l)
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := runv1.NewRunServiceClient(conn).WatchRun(context.Background(), &runv1.WatchRunRequest{Name: "runs/endless"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	if _, err := stream.Recv(); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("the stream ended with %v, want Unavailable", err)
	}
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("the stop waits for a follower")
	}
	<-s.Done()
}

func serve(t *testing.T, get func(context.Context, *runv1.GetRunRequest) (*runv1.GetRunResponse, error)) (runv1.RunServiceClient, healthpb.HealthClient) {
	t.Helper()
	s := NewServer(Config{DrainTimeout: time.Second}, zaptest.NewLogger(t))
	runv1.RegisterRunServiceServer(s, runs{get: get})
	l := NewLocal()
	s.Start(l)
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		if err := <-s.Done(); err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	return runv1.NewRunServiceClient(conn), healthpb.NewHealthClient(conn)
}

func TestFaultCrossesTheWire(t *testing.T) {
	var c fault.Checks
	c.Add("name", "is empty")
	c.Add("page_size", "is 5000; at most 1000")
	client, _ := serve(t, func(context.Context, *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		return nil, fmt.Errorf("get run: %w", c.Err())
	})
	_, err := client.GetRun(context.Background(), &runv1.GetRunRequest{})
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != fault.InvalidArgument || len(f.Violations) != 2 || f.Violations[1].Field != "page_size" {
		t.Fatalf("came back as %#v", err)
	}
	stream, err := client.WatchRun(context.Background(), &runv1.WatchRunRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if fault.ReasonOf(err) != fault.NotFound {
		t.Fatalf("stream ended with %v", err)
	}
}

func TestStatusCarriesDetails(t *testing.T) {
	err := ToStatus(&fault.Error{Reason: fault.ResourceExhausted, Message: "queue full", RetryAfter: 3 * time.Second})
	st, _ := status.FromError(err)
	if st.Code() != codes.ResourceExhausted {
		t.Fatalf("code %v", st.Code())
	}
	var info *errdetails.ErrorInfo
	var retry *errdetails.RetryInfo
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	if info.GetReason() != "RESOURCE_EXHAUSTED" || info.GetDomain() != Domain || retry.GetRetryDelay().AsDuration() != 3*time.Second {
		t.Fatalf("details %v", st.Details())
	}
	for reason := range codeOf {
		if back := fault.ReasonOf(FromStatus(ToStatus(fault.New(reason, "x")))); back != reason {
			t.Errorf("%s came back as %s", reason, back)
		}
	}
}

func TestPanicIsAnInternalErrorAndTheServerLives(t *testing.T) {
	calls := 0
	client, h := serve(t, func(ctx context.Context, _ *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		if calls++; calls == 1 {
			panic("boom")
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a call without a deadline got none")
		}
		return &runv1.GetRunResponse{}, nil
	})
	if _, err := client.GetRun(context.Background(), &runv1.GetRunRequest{}); fault.ReasonOf(err) != fault.Internal {
		t.Fatalf("panic came back as %v", err)
	}
	if _, err := client.GetRun(context.Background(), &runv1.GetRunRequest{}); err != nil {
		t.Fatal(err)
	}
	if r, err := h.Check(context.Background(), &healthpb.HealthCheckRequest{Service: "dreamood.run.v1.RunService"}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health %v, %v", r, err)
	}
}

// ended are the calls that an Observer heard of.
type ended chan [2]string

func (e ended) Call(method, code string, took time.Duration) {
	if took <= 0 {
		code = "took nothing"
	}
	e <- [2]string{method, code}
}

// TestCallsAreNamedObservedAndTraced: the client's call to one server, which calls a second one for it, has one id and
// one trace in both logs; the answer and the error name the id; and both servers' observers hear the code.
func TestCallsAreNamedObservedAndTraced(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	core, lines := observer.New(zap.InfoLevel)
	heard := make(ended, 10)
	start := func(get func(context.Context, *runv1.GetRunRequest) (*runv1.GetRunResponse, error)) runv1.RunServiceClient {
		s := NewServer(Config{DrainTimeout: time.Second, Tracing: provider, Observer: heard}, zap.New(core))
		runv1.RegisterRunServiceServer(s, runs{get: get})
		l := NewLocal()
		s.Start(l)
		conn, err := l.Dial(Traced(provider))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(); s.Stop(); <-s.Done() })
		return runv1.NewRunServiceClient(conn)
	}
	inner := start(func(context.Context, *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		return nil, fault.New(fault.NotFound, "no run")
	})
	outer := start(func(ctx context.Context, q *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		if q.Name == "" {
			return &runv1.GetRunResponse{}, nil
		}
		return inner.GetRun(ctx, q)
	})
	ctx, root := provider.Tracer("test").Start(t.Context(), "client")
	var header metadata.MD
	if _, err := outer.GetRun(metadata.AppendToOutgoingContext(ctx, "x-request-id", "mine"), &runv1.GetRunRequest{}, grpc.Header(&header)); err != nil || header.Get("x-request-id")[0] != "mine" {
		t.Errorf("the call that the client named came back with %v, %v", header, err)
	}
	_, err := outer.GetRun(metadata.AppendToOutgoingContext(ctx, "x-request-id", "not a name"), &runv1.GetRunRequest{Name: "runs/r"}, grpc.Header(&header))
	root.End()
	var f *fault.Error
	id := header.Get("x-request-id")[0]
	if !errors.As(err, &f) || f.Reason != fault.NotFound || f.Call != id || len(id) != 16 {
		t.Errorf("call %q came back as %#v", id, err)
	}
	method := runv1.RunService_GetRun_FullMethodName
	for _, want := range [][2]string{{method, "OK"}, {method, "NotFound"}, {method, "NotFound"}} {
		if got := <-heard; got != want {
			t.Errorf("heard of %v, want %v", got, want)
		}
	}
	trace := root.SpanContext().TraceID()
	for i, want := range []string{"mine", id, id} {
		if fields := lines.All()[i].ContextMap(); fields["call_id"] != want || fields["trace_id"] != trace.String() {
			t.Errorf("line %d is of call %v, trace %v; want %s, %s", i, fields["call_id"], fields["trace_id"], want, trace)
		}
	}
	kinds := map[string]int{}
	for _, s := range spans.GetSpans() {
		if s.SpanContext.TraceID() == trace {
			kinds[s.SpanKind.String()]++
		}
	}
	if kinds["client"] != 3 || kinds["server"] != 3 {
		t.Errorf("the trace has spans of kinds %v, want 3 client and 3 server", kinds)
	}
}
