package runs

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/zap/zaptest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// operations serves the runs of s over gRPC; stop ends the server.
func operations(t *testing.T, s *Service) (client longrunningpb.OperationsClient, stop func()) {
	t.Helper()
	server := rpc.NewServer(rpc.Config{
		DrainTimeout: 10 * time.Second, Followers: []string{longrunningpb.Operations_WaitOperation_FullMethodName},
	}, zaptest.NewLogger(t))
	longrunningpb.RegisterOperationsServer(server, Operations{Server: Server{Runs: s}})
	l := rpc.NewLocal()
	server.Start(l)
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			server.Stop()
			<-server.Done()
		}
	}
	t.Cleanup(func() { conn.Close(); stop() })
	return longrunningpb.NewOperationsClient(conn), stop
}

// fates is a worker whose runs end as their payload says.
func fates() Worker {
	return Worker{Kind: "dream", Work: func(ctx context.Context, task *Task) ([]byte, error) {
		switch string(task.Run.Payload) {
		case `"fail"`:
			return nil, fault.New(fault.FailedPrecondition, "sets/x is gone; render it again")
		case `"hang"`:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, nil
	}}
}

func reasoned(t *testing.T) *Service {
	t.Helper()
	s, err := New(t.Context(), fast, Deps{JS: openBus(t, t.TempDir()).JetStream(),
		Reason: func(err error) string { return string(fault.ReasonOf(err)) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// waited is the operation when it has ended.
func waited(t *testing.T, c longrunningpb.OperationsClient, name string) *longrunningpb.Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		op, err := c.WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name, Timeout: durationpb.New(10 * time.Second)})
		if err != nil {
			t.Fatalf("wait for %s: %v", name, err)
		}
		if op.Done {
			return op
		}
	}
}

func TestOperationOfEveryEnd(t *testing.T) {
	t.Parallel()
	s := reasoned(t)
	c, _ := operations(t, s)
	good := submit(t, s, Spec{Payload: []byte(`"good"`), Target: "sets/demo"})
	bad := submit(t, s, Spec{Payload: []byte(`"fail"`), Target: "sets/bad"})
	gone := submit(t, s, Spec{Payload: []byte(`"hang"`), Target: "sets/gone"})

	op, err := c.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "runs/" + good.ID})
	if err != nil || op.Done || op.Result != nil || op.Name != "runs/"+good.ID || runIn(t, op).State != runv1.RunState_RUN_STATE_PENDING {
		t.Fatalf("before any worker: %v, %v", op, err)
	}
	if _, err := c.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: "runs/" + gone.ID}); err != nil {
		t.Fatal(err)
	}
	serve(t, s, fates())

	op = waited(t, c, "runs/"+good.ID)
	var made runv1.Run
	if err := op.GetResponse().UnmarshalTo(&made); err != nil || made.Result != "sets/demo" || made.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Errorf("the response of a good end is %v, %v", op.GetResponse(), err)
	}
	for _, bad := range []struct {
		id      string
		code    codes.Code
		reason  string
		message string
	}{
		{bad.ID, codes.FailedPrecondition, "FAILED_PRECONDITION", "shard 0, attempt 1: sets/x is gone; render it again"},
		{gone.ID, codes.Canceled, "CANCELLED", "the run was cancelled"},
	} {
		op := waited(t, c, "runs/"+bad.id)
		st := status.FromProto(op.GetError())
		var info *errdetails.ErrorInfo
		for _, d := range st.Details() {
			info, _ = d.(*errdetails.ErrorInfo)
		}
		if st.Code() != bad.code || st.Message() != bad.message || info.GetReason() != bad.reason || info.GetDomain() != rpc.Domain {
			t.Errorf("a bad end is %v, want %v %s", st.Proto(), bad.code, bad.reason)
		}
		if got := "runs/" + bad.id; runIn(t, op).Name != got {
			t.Errorf("metadata %v, want %s", op.Metadata, got)
		}
	}
	if _, err := c.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: "runs/" + good.ID}); err != nil {
		t.Errorf("delete an operation that is done: %v", err)
	}
	if _, err := c.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "runs/" + good.ID}); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("a deleted operation: %v", err)
	}
	open := submit(t, s, Spec{Kind: "sleep"})
	if _, err := c.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: "runs/" + open.ID}); fault.ReasonOf(err) != fault.FailedPrecondition {
		t.Errorf("delete an operation that is not done: %v", err)
	}
	_, err = c.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "runs/none"})
	if fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("an operation that is none: %v", err)
	}
}

// runIn is the metadata of an operation.
func runIn(t *testing.T, op *longrunningpb.Operation) *runv1.Run {
	t.Helper()
	var run runv1.Run
	if err := op.GetMetadata().UnmarshalTo(&run); err != nil {
		t.Fatalf("metadata of %s: %v", op.GetName(), err)
	}
	return &run
}

func TestWaitOperationEndsWithItsTimeAndWithTheServer(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	c, stop := operations(t, s)
	run := submit(t, s, Spec{})
	began := time.Now()
	op, err := c.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: "runs/" + run.ID, Timeout: durationpb.New(50 * time.Millisecond)})
	if err != nil || op.Done || time.Since(began) < 50*time.Millisecond {
		t.Fatalf("waited %s for %v, %v", time.Since(began), op, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: "runs/" + run.ID})
		ended <- err
	}()
	for watchers := 0; watchers == 0; time.Sleep(5 * time.Millisecond) { // until the call watches
		info, err := s.events.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		watchers = info.State.Consumers
	}
	stop()
	var f *fault.Error
	if err := <-ended; !errors.As(err, &f) || f.Reason != fault.Unavailable {
		t.Fatalf("when the server stopped the call ended with %v, want Unavailable", err)
	}
}

func TestListOperationsFilters(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	c, _ := operations(t, s)
	first := submit(t, s, Spec{Kind: "dream", Target: "sets/a"})
	second := submit(t, s, Spec{Kind: "sleep", Target: "sets/b", Options: Options{Labels: map[string]string{"team": "a b"}}})
	if _, err := s.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		"":                                 second.ID + first.ID,
		"done=true":                        first.ID,
		"done = false":                     second.ID,
		`metadata.kind = "sleep"`:          second.ID,
		"kind=sleep AND done=true":         "",
		"state=CANCELLED AND  kind=dream":  first.ID,
		"metadata.state=RUN_STATE_PENDING": second.ID,
	} {
		list, err := c.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{Name: "runs", Filter: filter})
		got := ""
		for _, op := range list.GetOperations() {
			got += op.Name[len("runs/"):]
		}
		if err != nil || got != want {
			t.Errorf("%q lists %q, %v; want %q", filter, got, err, want)
		}
	}
	page, err := c.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{PageSize: 1})
	if err != nil || len(page.Operations) != 1 || page.NextPageToken == "" {
		t.Fatalf("a page of one: %v, %v", page, err)
	}
	page, err = c.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{PageSize: 1, PageToken: page.NextPageToken})
	if err != nil || len(page.Operations) != 1 || page.Operations[0].Name != "runs/"+first.ID || page.NextPageToken != "" {
		t.Fatalf("the second page: %v, %v", page, err)
	}
	for _, q := range []*longrunningpb.ListOperationsRequest{
		{Filter: "age>3"}, {Filter: "done=maybe"}, {Filter: "state=HAPPY"}, {Filter: "kind=dream AND"}, {Filter: "kind=a OR kind=b"},
		{Filter: "kind=a kind=b"}, {Name: "projects/x"}, {ReturnPartialSuccess: true}, {PageSize: -1}, {PageToken: "?"},
	} {
		if _, err := c.ListOperations(t.Context(), q); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%v is answered with %v", q, err)
		}
	}
}
