package runs

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/internal/auth"
)

// seen is the id of a run that the caller may know. To a client the runs of others do not exist: ErrNotFound.
func (s Server) seen(ctx context.Context, name string) (string, error) {
	id, _, err := s.owned(ctx, name)
	return id, err
}

// steered is the id of a run that the caller may change: its own, or any one where it is an admin. A call that changes
// a run begins with it.
func (s Server) steered(ctx context.Context, name string) (string, error) {
	id, owner, err := s.owned(ctx, name)
	if err != nil {
		return "", err
	}
	return id, auth.Steers(ctx, owner)
}

// owned finds the owner of a run, who never changes. Without authentication nobody is asked.
func (s Server) owned(ctx context.Context, name string) (id, owner string, err error) {
	if id, err = s.id(name); err != nil {
		return "", "", err
	}
	if _, ok := auth.From(ctx); !ok {
		return id, "", nil
	}
	run, err := s.Runs.load(ctx, id)
	if err != nil {
		return "", "", Fault(err)
	}
	if !auth.Sees(ctx, run.Owner) {
		return "", "", Fault(fmt.Errorf("run %s: %w", id, ErrNotFound))
	}
	return id, run.Owner, nil
}

// ownersOf narrows a filter to what the caller may see. It is false when nothing is left.
func ownersOf(ctx context.Context, filter *Filter) bool {
	if i, ok := auth.From(ctx); ok && i.Role == auth.Client {
		if filter.Owner != "" && filter.Owner != i.Name {
			return false
		}
		filter.Owner = i.Name
	}
	return true
}
