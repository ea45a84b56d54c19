package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
)

// TestARunBelongsToWhoSubmittedIt goes through a whole process: token, interceptor, role, queue and back.
func TestARunBelongsToWhoSubmittedIt(t *testing.T) {
	dir := t.TempDir()
	lines := ""
	files := map[string]string{}
	for name, role := range map[string]auth.Role{"alice": auth.Client, "bob": auth.Client, "root": auth.Admin, "eye": auth.Viewer} {
		token, line, err := auth.NewToken(auth.Identity{Name: name, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		lines += line + "\n"
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tokens := filepath.Join(dir, "tokens")
	cfg := Config{Data: t.TempDir(), Models: models, Listen: "127.0.0.1:0", Tokens: tokens, Datasets: []string{"../../sample"}}
	if err := os.WriteFile(tokens, []byte("\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), cfg, zap.NewNop()); err == nil || !strings.Contains(err.Error(), tokens+":2:") {
		t.Fatalf("a file with a bad line: %v", err)
	}
	if err := os.WriteFile(tokens, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	dial := func(name string) *grpc.ClientConn {
		conn, err := rpc.Credentials{TokenFile: files[name]}.Dial(a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	train := func(name, space string) (*runv1.Run, error) {
		r, err := embedderv1.NewEmbedderServiceClient(dial(name)).TrainSpace(t.Context(), &embedderv1.TrainSpaceRequest{
			SpaceId: space, Dataset: "cifar10_train.tar.gz", RequestId: "same", Training: &embedderv1.SpaceTraining{Epochs: 1, Width: 16, BatchSize: 64},
		})
		return r.GetRun(), err
	}
	hers, err := train("alice", "hers")
	if err != nil || hers.Owner != "alice" {
		t.Fatalf("the run of alice belongs to %q, %v", hers.GetOwner(), err)
	}
	his, err := train("bob", "his")
	if err != nil || his.Owner != "bob" || his.Name == hers.Name {
		t.Fatalf("the run of bob is %v, %v", his, err)
	}
	if _, err := train("eye", "none"); fault.ReasonOf(err) != fault.PermissionDenied {
		t.Errorf("a viewer trains: %v", err)
	}
	nobody, err := rpc.Dial(a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if _, err := runv1.NewRunServiceClient(nobody).ListRuns(t.Context(), &runv1.ListRunsRequest{}); fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("nobody lists runs: %v", err)
	}
	for name, want := range map[string]int{"alice": 1, "bob": 1, "root": 2, "eye": 2} {
		r, err := runv1.NewRunServiceClient(dial(name)).ListRuns(t.Context(), &runv1.ListRunsRequest{})
		if err != nil || len(r.Runs) != want {
			t.Errorf("%s lists %d runs, want %d; %v", name, len(r.GetRuns()), want, err)
		}
	}
	for _, c := range []struct {
		name string
		want fault.Reason
	}{{"bob", fault.NotFound}, {"eye", fault.PermissionDenied}, {"alice", ""}} {
		if _, err := runv1.NewRunServiceClient(dial(c.name)).CancelRun(t.Context(), &runv1.CancelRunRequest{Name: hers.Name}); fault.ReasonOf(err) != c.want {
			t.Errorf("%s cancels the run of alice: %v", c.name, err)
		}
	}
	for name, want := range map[string]fault.Reason{"alice": fault.PermissionDenied, "eye": fault.PermissionDenied, "root": ""} {
		if _, err := storev1.NewStoreServiceClient(dial(name)).CollectGarbage(t.Context(), &storev1.CollectGarbageRequest{DryRun: true}); fault.ReasonOf(err) != want {
			t.Errorf("%s collects garbage: %v", name, err)
		}
	}
	if _, err := runv1.NewRunServiceClient(dial("root")).CancelRun(t.Context(), &runv1.CancelRunRequest{Name: his.Name}); err != nil {
		t.Errorf("an admin cancels the run of bob: %v", err)
	}
}
