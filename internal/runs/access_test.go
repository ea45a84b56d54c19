package runs

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

func as(t *testing.T, name string, role auth.Role) context.Context {
	return auth.With(t.Context(), auth.Identity{Name: name, Role: role})
}

// watcher is the stream of a WatchRun that ends at the first event.
type watcher struct {
	grpc.ServerStream
	ctx context.Context
}

func (w watcher) Context() context.Context           { return w.ctx }
func (w watcher) Send(*runv1.WatchRunResponse) error { return context.Canceled }

func TestOwnersDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	s := Server{Runs: mesh(t, fast)}
	names := map[string]string{} // by owner
	for _, owner := range []string{"alice", "bob", ""} {
		// The same request id is another one for every owner.
		names[owner] = ood.Runs.Name(submit(t, s.Runs, Spec{Owner: owner, RequestID: "same"}).ID)
	}
	get := func(ctx context.Context, owner string) fault.Reason {
		_, err := s.GetRun(ctx, &runv1.GetRunRequest{Name: names[owner]})
		return fault.ReasonOf(err)
	}
	watch := func(ctx context.Context, owner string) fault.Reason {
		return fault.ReasonOf(s.WatchRun(&runv1.WatchRunRequest{Name: names[owner]}, watcher{ctx: ctx}))
	}
	cancel := func(ctx context.Context, owner string) fault.Reason {
		_, err := s.CancelRun(ctx, &runv1.CancelRunRequest{Name: names[owner]})
		return fault.ReasonOf(err)
	}
	list := func(ctx context.Context, owner string) int {
		r, err := s.ListRuns(ctx, &runv1.ListRunsRequest{Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Runs)
	}
	alice, viewer, service, admin := as(t, "alice", auth.Client), as(t, "alice", auth.Viewer), as(t, "generator", auth.Service), as(t, "root", auth.Admin)
	for _, c := range []struct {
		what string
		got  any
		want any
	}{
		{"alice gets her own", get(alice, "alice"), fault.Reason("")},
		{"alice gets bob's", get(alice, "bob"), fault.NotFound},
		{"alice gets nobody's", get(alice, ""), fault.NotFound},
		{"alice watches her own", watch(alice, "alice"), fault.Cancelled},
		{"alice watches bob's", watch(alice, "bob"), fault.NotFound},
		{"alice lists all", list(alice, ""), 1},
		{"alice lists bob's", list(alice, "bob"), 0},
		{"alice cancels bob's", cancel(alice, "bob"), fault.NotFound},
		{"a viewer gets bob's", get(viewer, "bob"), fault.Reason("")},
		{"a viewer lists all", list(viewer, ""), 3},
		{"a viewer cancels bob's", cancel(viewer, "bob"), fault.PermissionDenied},
		{"a service gets bob's", get(service, "bob"), fault.Reason("")},
		{"a service cancels bob's", cancel(service, "bob"), fault.PermissionDenied},
		{"an admin lists bob's", list(admin, "bob"), 1},
		{"nobody is asked", list(t.Context(), ""), 3},
		{"alice cancels her own", cancel(alice, "alice"), fault.Reason("")},
		{"an admin cancels bob's", cancel(admin, "bob"), fault.Reason("")},
		{"without authentication everybody cancels", cancel(t.Context(), ""), fault.Reason("")},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if run, err := s.Runs.Get(t.Context(), names["bob"][len("runs/"):]); err != nil || run.State != Cancelled {
		t.Errorf("bob's run is %s, %v", run.State, err)
	}
}
