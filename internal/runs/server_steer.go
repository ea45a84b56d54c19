package runs

import (
	"context"

	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// steer answers a call that names a run, changes it and returns it.
func (s Server) steer(ctx context.Context, name string, change func(context.Context, string) (Run, error)) (*runv1.Run, error) {
	id, err := s.steered(ctx, name)
	if err != nil {
		return nil, err
	}
	run, err := change(ctx, id)
	if err != nil {
		return nil, Fault(err)
	}
	return run.Proto(), nil
}

// CancelRun ends a run.
func (s Server) CancelRun(ctx context.Context, q *runv1.CancelRunRequest) (*runv1.CancelRunResponse, error) {
	run, err := s.steer(ctx, q.Name, s.Runs.Cancel)
	return &runv1.CancelRunResponse{Run: run}, err
}

// PauseRun takes a run out of the queue.
func (s Server) PauseRun(ctx context.Context, q *runv1.PauseRunRequest) (*runv1.PauseRunResponse, error) {
	run, err := s.steer(ctx, q.Name, s.Runs.Pause)
	return &runv1.PauseRunResponse{Run: run}, err
}

// ResumeRun puts a paused run back.
func (s Server) ResumeRun(ctx context.Context, q *runv1.ResumeRunRequest) (*runv1.ResumeRunResponse, error) {
	run, err := s.steer(ctx, q.Name, s.Runs.Resume)
	return &runv1.ResumeRunResponse{Run: run}, err
}

// RetryRun makes a new run out of one that failed or was cancelled.
func (s Server) RetryRun(ctx context.Context, q *runv1.RetryRunRequest) (*runv1.RetryRunResponse, error) {
	run, err := s.steer(ctx, q.Name, s.Runs.Retry)
	return &runv1.RetryRunResponse{Run: run}, err
}

// DeleteRun removes the record of a run that has ended.
func (s Server) DeleteRun(ctx context.Context, q *runv1.DeleteRunRequest) (*runv1.DeleteRunResponse, error) {
	id, err := s.steered(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	return &runv1.DeleteRunResponse{}, Fault(s.Runs.Delete(ctx, id))
}
