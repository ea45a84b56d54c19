package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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
	return fault.New(fault.NotFound, "no run")
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
