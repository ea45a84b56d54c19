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
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
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
			SpaceId: space, Dataset: "cifar10_test.zip", RequestId: "same-" + space[:1], Training: &embedderv1.SpaceTraining{Epochs: 1, Width: 8, BankPerClass: 40, BatchSize: 32},
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
	thingsBelongToo(t, a, dial, train)
}

// thingsBelongToo: what a run has made belongs to the run's owner. Everybody reads it; its owner and admins delete it and
// change it.
func thingsBelongToo(t *testing.T, a *App, dial func(string) *grpc.ClientConn, train func(name, space string) (*runv1.Run, error)) {
	t.Helper()
	run, err := train("alice", "kept")
	if err != nil {
		t.Fatal(err)
	}
	if end := follow(t, dial("alice"), run.Name, func(r *runv1.Run) bool { return r.EndTime != nil }); end.State != runv1.RunState_RUN_STATE_SUCCEEDED {
		t.Fatalf("%v: %v", end.State, end.Failure)
	}
	spaces := func(name string) embedderv1.EmbedderServiceClient {
		return embedderv1.NewEmbedderServiceClient(dial(name))
	}
	list, err := spaces("bob").ListSpaces(t.Context(), &embedderv1.ListSpacesRequest{})
	if err != nil || len(list.Spaces) != 1 || list.Spaces[0].Owner != "alice" {
		t.Errorf("bob lists %v, %v", list, err)
	}
	one, err := spaces("eye").GetSpace(t.Context(), &embedderv1.GetSpaceRequest{Name: "spaces/kept"})
	if err != nil || one.Space.Owner != "alice" {
		t.Errorf("a viewer sees the owner %q, %v", one.GetSpace().GetOwner(), err)
	}
	for _, c := range []struct {
		name string
		want fault.Reason
	}{{"bob", fault.PermissionDenied}, {"eye", fault.PermissionDenied}, {"alice", ""}, {"alice", fault.NotFound}} {
		if _, err := spaces(c.name).DeleteSpace(t.Context(), &embedderv1.DeleteSpaceRequest{Name: "spaces/kept"}); fault.ReasonOf(err) != c.want {
			t.Errorf("%s deletes the space of alice: %v", c.name, err)
		}
	}
	for id, owner := range map[string]string{"old": "", "hers": "alice"} {
		if _, err := a.catalog.Put(t.Context(), "detectors", id, []byte(`{"name": "detectors/`+id+`", "owner": "`+owner+`"}`), 0); err != nil {
			t.Fatal(err)
		}
	}
	evaluate := &trainerv1.EvaluateDetectorRequest{
		Name: "detectors/hers", TestDataset: "cifar10_test.zip", OodDatasets: []*trainerv1.NamedDataset{{Name: "t", Path: "ood_textures.zip"}},
	}
	if _, err := trainerv1.NewTrainerServiceClient(dial("bob")).EvaluateDetector(t.Context(), evaluate); fault.ReasonOf(err) != fault.PermissionDenied {
		t.Errorf("bob has the detector of alice measured: %v", err)
	}
	pipeline := &runv1.SubmitPipelineRequest{PipelineId: "p", Steps: []*runv1.PipelineStep{{Id: "s", Kind: "evaluate-detector",
		RequestJson: `{"name": "detectors/hers", "test_dataset": "cifar10_test.zip", "ood_datasets": [{"name": "t", "path": "ood_textures.zip"}]}`}}}
	if _, err := runv1.NewRunServiceClient(dial("bob")).SubmitPipeline(t.Context(), pipeline); fault.ReasonOf(err) != fault.PermissionDenied {
		t.Errorf("bob has a pipeline measure the detector of alice: %v", err)
	}
	for _, c := range []struct {
		name, detector string
		want           fault.Reason
	}{{"alice", "old", fault.PermissionDenied}, {"root", "old", ""}, {"root", "hers", ""}} {
		_, err := trainerv1.NewTrainerServiceClient(dial(c.name)).DeleteDetector(t.Context(), &trainerv1.DeleteDetectorRequest{Name: "detectors/" + c.detector})
		if fault.ReasonOf(err) != c.want {
			t.Errorf("%s deletes detector %s: %v", c.name, c.detector, err)
		}
	}
}
