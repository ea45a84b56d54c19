package runs

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// Server is the gRPC face of runs; every role serves it.
type Server struct {
	runv1.UnimplementedRunServiceServer
	Runs      *Service
	Pipelines Pipelines // what SubmitPipeline can submit; empty where that is not served
}

var toProto = map[State]runv1.RunState{
	Pending: runv1.RunState_RUN_STATE_PENDING, Running: runv1.RunState_RUN_STATE_RUNNING,
	Succeeded: runv1.RunState_RUN_STATE_SUCCEEDED, Failed: runv1.RunState_RUN_STATE_FAILED,
	Cancelled: runv1.RunState_RUN_STATE_CANCELLED, Paused: runv1.RunState_RUN_STATE_PAUSED,
}

// Proto is the run as clients see it.
func (r Run) Proto() *runv1.Run {
	out := &runv1.Run{
		Name: ood.Runs.Name(r.ID), Kind: r.Kind, State: toProto[r.State], Target: r.Target, Result: r.Result,
		Progress:  &runv1.Progress{Done: r.Progress.Done, Total: r.Progress.Total, Unit: r.Progress.Unit, Message: r.Progress.Message},
		RequestId: r.RequestID, Owner: r.Owner, RequestJson: string(r.Payload),
		Shards: int32(r.ShardCount), ShardsDone: int32(r.ShardsDone),
		CreateTime: stamp(r.Created), StartTime: stamp(r.Started), EndTime: stamp(r.Ended), Options: r.Options.Proto(),
		Attempts: int32(r.Attempts),
	}
	for _, id := range r.WaitingFor {
		out.WaitingFor = append(out.WaitingFor, ood.Runs.Name(id))
	}
	if r.RetryOf != "" {
		out.RetryOf = ood.Runs.Name(r.RetryOf)
	}
	if r.RetriedBy != "" {
		out.RetriedBy = ood.Runs.Name(r.RetriedBy)
	}
	if r.Failure != nil {
		out.Failure = &runv1.Failure{Reason: r.Failure.Reason, Message: r.Failure.Message}
	}
	return out
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Fault turns an error of this package into one that a client can act on.
func Fault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoQueue):
		return fault.New(fault.NotFound, "%w", err)
	case errors.Is(err, ErrState):
		return fault.New(fault.FailedPrecondition, "%w", err)
	case errors.Is(err, ErrRequestMismatch):
		return fault.Invalid("request_id", "%w", err)
	case errors.Is(err, ErrQueueFull), errors.Is(err, ErrQuota):
		return &fault.Error{Reason: fault.ResourceExhausted, Message: err.Error(), RetryAfter: 30 * time.Second, Err: err}
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, context.DeadlineExceeded):
		return &fault.Error{Reason: fault.Unavailable, Message: "the queue cannot be reached: " + err.Error() +
			" (is the NATS server up, and is there room on its disk?)", RetryAfter: 5 * time.Second, Err: err}
	case errors.Is(err, ErrInvalid):
		return fault.New(fault.InvalidArgument, "%w", err)
	}
	return err
}

// FreeTarget returns AlreadyExists when a run that has not ended is making that resource, so that nobody trains for an
// hour to find the name taken. Two submissions at the very same moment are still told apart only at the end. self is
// the run that asks, empty before there is one: runs that were submitted after it do not count.
func (s *Service) FreeTarget(ctx context.Context, kind, target, self string) error {
	open, err := s.unfinished(ctx)
	if err != nil {
		return Fault(err)
	}
	for _, r := range open {
		if r.Kind == kind && r.Target == target && (self == "" || r.ID < self) {
			return fault.New(fault.AlreadyExists, "%s is being made by %s; follow or cancel that run, or choose another id", target, ood.Runs.Name(r.ID))
		}
	}
	return nil
}

// DropIf is Drop for errors of type E, and leaves others as they are.
func DropIf[E error](err error) error {
	var e E
	if errors.As(err, &e) {
		return Drop(err)
	}
	return err
}

func (s Server) id(name string) (string, error) {
	id, ok := strings.CutPrefix(name, string(ood.Runs)+"/")
	if !ok || id == "" {
		return "", fault.Invalid("name", "%q is not of the form runs/ID; `dreamood runs list` names them", name)
	}
	return id, nil
}

// GetRun returns one run.
func (s Server) GetRun(ctx context.Context, q *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
	id, err := s.seen(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	run, err := s.Runs.Get(ctx, id)
	if err != nil {
		return nil, Fault(err)
	}
	out := run.Proto()
	place, ok, err := s.Runs.Place(ctx, &run)
	if err != nil {
		return nil, Fault(err)
	}
	if ok {
		out.Queue = place.proto()
	}
	return &runv1.GetRunResponse{Run: out}, nil
}

// ListRuns returns a page of runs.
func (s Server) ListRuns(ctx context.Context, q *runv1.ListRunsRequest) (*runv1.ListRunsResponse, error) {
	filter := Filter{Kind: q.Kind, Owner: q.Owner, Target: q.Target, Labels: q.Labels}
	for state, p := range toProto {
		if p == q.State {
			filter.State = state
		}
	}
	if q.PageSize < 0 || q.PageSize > 1000 {
		return nil, fault.Invalid("page_size", "%d; want 1 to 1000, or 0 for 50", q.PageSize)
	}
	if !ownersOf(ctx, &filter) {
		return &runv1.ListRunsResponse{}, nil
	}
	list, next, err := s.Runs.List(ctx, filter, int(q.PageSize), q.PageToken)
	if err != nil {
		return nil, Fault(err)
	}
	out := &runv1.ListRunsResponse{NextPageToken: next}
	for _, r := range list {
		out.Runs = append(out.Runs, r.Proto())
	}
	return out, nil
}

// WatchRun streams the events of a run until it has ended.
func (s Server) WatchRun(q *runv1.WatchRunRequest, stream runv1.RunService_WatchRunServer) error {
	id, err := s.seen(stream.Context(), q.Name)
	if err != nil {
		return err
	}
	return Fault(s.Runs.Watch(stream.Context(), id, q.AfterSequence, func(e Event) error {
		return stream.Send(&runv1.WatchRunResponse{Sequence: e.Sequence, Run: e.Run.Proto()})
	}))
}
