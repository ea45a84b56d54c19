package runs

import (
	"context"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/rpc"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// How long WaitOperation waits where the client does not say, and at most.
const (
	defaultWait = time.Minute
	longestWait = 5 * time.Minute
)

// Operations is runs as google.longrunning.Operations, for clients that know that service: an operation's name is that
// of its run, `runs/{id}`, its metadata is the Run, its response too. It asks Server for everything, so what that
// refuses is refused here.
type Operations struct {
	longrunningpb.UnimplementedOperationsServer
	Server
}

// operation is the run as a long-running operation: done when it has ended, with the run as its response when it
// SUCCEEDED, and otherwise with a google.rpc.Status that carries the reason in its ErrorInfo.
func operation(run *runv1.Run) (*longrunningpb.Operation, error) {
	packed, err := anypb.New(run)
	if err != nil {
		return nil, err
	}
	op := &longrunningpb.Operation{Name: run.Name, Metadata: packed}
	switch run.State {
	case runv1.RunState_RUN_STATE_SUCCEEDED:
		op.Done, op.Result = true, &longrunningpb.Operation_Response{Response: packed}
	case runv1.RunState_RUN_STATE_FAILED:
		op.Done, op.Result = true, outcome(fault.Reason(run.GetFailure().GetReason()), run.GetFailure().GetMessage())
	case runv1.RunState_RUN_STATE_CANCELLED:
		op.Done, op.Result = true, outcome(fault.Cancelled, "the run was cancelled")
	}
	return op, nil
}

// outcome is a bad end as a status, with the code that the reason has everywhere.
func outcome(reason fault.Reason, message string) *longrunningpb.Operation_Error {
	return &longrunningpb.Operation_Error{Error: status.Convert(rpc.ToStatus(&fault.Error{Reason: reason, Message: message})).Proto()}
}

// GetOperation returns the run of that name.
func (s Operations) GetOperation(ctx context.Context, q *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	got, err := s.GetRun(ctx, &runv1.GetRunRequest{Name: q.Name})
	if err != nil {
		return nil, err
	}
	return operation(got.Run)
}

// ListOperations returns runs, newest first. The name is empty or "runs". The filter is a conjunction, as AIP-160 writes
// it, of done, kind, state, owner, target and labels.NAME; a filtered page may hold fewer operations than asked for.
func (s Operations) ListOperations(ctx context.Context, q *longrunningpb.ListOperationsRequest) (*longrunningpb.ListOperationsResponse, error) {
	var c fault.Checks
	c.That(q.Name == "" || q.Name == string(ood.Runs), "name", "%q; operations are listed under %q alone", q.Name, ood.Runs)
	c.That(!q.ReturnPartialSuccess, "return_partial_success", "is set; there is one collection, and nothing of it is unreachable by itself")
	filter, err := parseFilter(q.Filter)
	if err := fault.Join(c.Err(), err); err != nil {
		return nil, err
	}
	filter.list.PageSize, filter.list.PageToken = q.PageSize, q.PageToken
	page, err := s.ListRuns(ctx, filter.list)
	if err != nil {
		return nil, err
	}
	out := &longrunningpb.ListOperationsResponse{NextPageToken: page.NextPageToken}
	for _, run := range page.Runs {
		if !filter.match(run) {
			continue
		}
		op, err := operation(run)
		if err != nil {
			return nil, err
		}
		out.Operations = append(out.Operations, op)
	}
	return out, nil
}

// CancelOperation is CancelRun.
func (s Operations) CancelOperation(ctx context.Context, q *longrunningpb.CancelOperationRequest) (*emptypb.Empty, error) {
	_, err := s.CancelRun(ctx, &runv1.CancelRunRequest{Name: q.Name})
	return &emptypb.Empty{}, err
}

// DeleteOperation is DeleteRun.
func (s Operations) DeleteOperation(ctx context.Context, q *longrunningpb.DeleteOperationRequest) (*emptypb.Empty, error) {
	_, err := s.DeleteRun(ctx, &runv1.DeleteRunRequest{Name: q.Name})
	return &emptypb.Empty{}, err
}

// WaitOperation returns the run when it has ended, or as it stands when the time is up: what the client says, a minute
// without that, at most five.
func (s Operations) WaitOperation(ctx context.Context, q *longrunningpb.WaitOperationRequest) (*longrunningpb.Operation, error) {
	wait := defaultWait
	if q.Timeout != nil {
		wait = min(q.Timeout.AsDuration(), longestWait)
	}
	got, err := s.GetRun(ctx, &runv1.GetRunRequest{Name: q.Name})
	if err != nil || fromProto(got.Run.State).Terminal() || wait <= 0 {
		return answer(got, err)
	}
	if err := s.await(ctx, q.Name, wait); err != nil {
		return nil, err
	}
	return answer(s.GetRun(ctx, &runv1.GetRunRequest{Name: q.Name}))
}

// await waits for the end of a run, at most so long.
func (s Operations) await(ctx context.Context, name string, wait time.Duration) error {
	id, err := s.seen(ctx, name)
	if err != nil {
		return err
	}
	run, err := s.Runs.Get(ctx, id)
	if err != nil {
		return Fault(err)
	}
	until, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = s.Runs.Watch(until, id, run.Sequence, func(Event) error { return nil })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case until.Err() != nil:
		return nil
	}
	return Fault(err)
}

func answer(got *runv1.GetRunResponse, err error) (*longrunningpb.Operation, error) {
	if err != nil {
		return nil, err
	}
	return operation(got.Run)
}

// fromProto is the inverse of toProto.
func fromProto(state runv1.RunState) State {
	for s, p := range toProto {
		if p == state {
			return s
		}
	}
	return ""
}
