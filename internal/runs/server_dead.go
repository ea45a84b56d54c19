package runs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// deadLetters is the collection that names of dead letters begin with.
const deadLetters = "deadLetters/"

// Proto is the dead letter as clients see it.
func (l DeadLetter) Proto() *runv1.DeadLetter {
	out := &runv1.DeadLetter{
		Name: deadLetters + strconv.FormatUint(l.Sequence, 10), Run: ood.Runs.Name(l.Run), Kind: l.Kind, Shard: int32(l.Shard),
		Attempts: int32(l.Attempts), Failure: &runv1.Failure{Reason: l.Failure.Reason, Message: l.Failure.Message}, Worker: l.Worker,
		CreateTime: timestamppb.New(l.Time), Owner: l.Owner, Stack: l.Stack,
	}
	if l.RedrivenBy != "" {
		out.RedrivenBy = ood.Runs.Name(l.RedrivenBy)
	}
	return out
}

// ListDeadLetters returns a page of dead letters.
func (s Server) ListDeadLetters(ctx context.Context, q *runv1.ListDeadLettersRequest) (*runv1.ListDeadLettersResponse, error) {
	if q.PageSize < 0 || q.PageSize > 1000 {
		return nil, fault.Invalid("page_size", "%d; want 1 to 1000, or 0 for 50", q.PageSize)
	}
	var run string
	if q.Run != "" {
		var err error
		if run, err = s.id(q.Run); err != nil {
			return nil, err
		}
	}
	filter := Filter{Kind: q.Kind}
	if !ownersOf(ctx, &filter) {
		return &runv1.ListDeadLettersResponse{}, nil
	}
	list, next, err := s.Runs.DeadLetters(ctx, filter, run, int(q.PageSize), q.PageToken)
	if err != nil {
		return nil, Fault(err)
	}
	out := &runv1.ListDeadLettersResponse{NextPageToken: next}
	for _, letter := range list {
		out.DeadLetters = append(out.DeadLetters, letter.Proto())
	}
	return out, nil
}

// letter reads a dead letter that the caller may see. To a client those of others do not exist.
func (s Server) letter(ctx context.Context, name string) (DeadLetter, error) {
	number, ok := strings.CutPrefix(name, deadLetters)
	sequence, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return DeadLetter{}, fault.Invalid("name", "%q is not of the form deadLetters/NUMBER", name)
	}
	letter, err := s.Runs.DeadLetter(ctx, sequence)
	if err == nil && !auth.Sees(ctx, letter.Owner) {
		err = fmt.Errorf("dead letter %d: %w", sequence, ErrNotFound)
	}
	return letter, Fault(err)
}

// GetDeadLetter returns a dead letter.
func (s Server) GetDeadLetter(ctx context.Context, q *runv1.GetDeadLetterRequest) (*runv1.GetDeadLetterResponse, error) {
	letter, err := s.letter(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	return &runv1.GetDeadLetterResponse{DeadLetter: letter.Proto()}, nil
}

// RedriveDeadLetter retries the run of a dead letter.
func (s Server) RedriveDeadLetter(ctx context.Context, q *runv1.RedriveDeadLetterRequest) (*runv1.RedriveDeadLetterResponse, error) {
	letter, err := s.letter(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	run, err := s.steer(ctx, ood.Runs.Name(letter.Run), s.Runs.Retry)
	return &runv1.RedriveDeadLetterResponse{Run: run}, err
}
