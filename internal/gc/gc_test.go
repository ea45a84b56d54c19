package gc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/runs"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keep is a mesh without roles: a queue, a catalog and a folder.
type keep struct {
	*Collector
	dir string
	bus *bus.Bus
}

func newKeep(t *testing.T, cfg Config) keep {
	t.Helper()
	k := keep{dir: t.TempDir()}
	var err error
	if k.bus, err = bus.Open(t.Context(), bus.Config{Dir: filepath.Join(k.dir, "nats"), NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.bus.Close)
	deps := Deps{JS: k.bus.JetStream(), Log: zap.NewNop()}
	if deps.Catalog, err = catalog.New(t.Context(), deps.JS, catalog.Config{}); err != nil {
		t.Fatal(err)
	}
	deps.Runs, err = runs.New(t.Context(), runs.Config{
		MaxAttempts: 1, Poll: 50 * time.Millisecond, ReportEvery: 20 * time.Millisecond,
	}, runs.Deps{JS: deps.JS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(deps.Runs.Close)
	if deps.Blobs, err = artifact.NewFiles(k.dir); err != nil {
		t.Fatal(err)
	}
	cfg.Checkpoints = filepath.Join(k.dir, "checkpoints")
	if err := os.Mkdir(cfg.Checkpoints, 0o750); err != nil {
		t.Fatal(err)
	}
	if k.Collector, err = New(t.Context(), cfg, deps); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k keep) put(t *testing.T, blob string) artifact.Ref {
	t.Helper()
	ref, err := artifact.PutBytes(t.Context(), k.deps.Blobs, []byte(blob))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (k keep) file(ref artifact.Ref) string {
	return filepath.Join(k.dir, "blobs", "sha256", ref.Hex()[:2], ref.Hex())
}

// age makes everything in the store two days old.
func (k keep) age(t *testing.T) {
	t.Helper()
	old := time.Now().Add(-48 * time.Hour)
	for _, pattern := range []string{"blobs/sha256/*/*", "checkpoints/*"} {
		files, err := filepath.Glob(filepath.Join(k.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// serve works off a kind until the end of the test.
func (k keep) serve(t *testing.T, w runs.Worker) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := k.deps.Runs.Serve(ctx, w); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

func (k keep) submit(t *testing.T, kind string, shards int, payload string) runs.Run {
	t.Helper()
	run, _, err := k.deps.Runs.Submit(t.Context(), runs.Spec{Kind: kind, Shards: shards, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// await follows a run until f.
func (k keep) await(t *testing.T, id string, f func(runs.Run) bool) runs.Run {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if run, err := k.deps.Runs.Get(t.Context(), id); err == nil && f(run) {
			return run
		}
	}
	t.Fatalf("run %s does not come to where it should", id)
	panic("unreachable")
}

func ended(r runs.Run) bool { return r.State.Terminal() }

func (k keep) document(t *testing.T, id string, refs ...artifact.Ref) {
	t.Helper()
	if _, err := k.deps.Catalog.Put(t.Context(), "sets", id, fmt.Appendf(nil, `{"shards": %q}`, refs), 0); err != nil {
		t.Fatal(err)
	}
}

func (k keep) collect(t *testing.T, grace time.Duration, dryRun bool) Report {
	t.Helper()
	r, err := k.Collect(t.Context(), grace, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsNamedStays(t *testing.T) {
	k := newKeep(t, Config{})
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	work := func(ctx context.Context, task *runs.Task) ([]byte, error) {
		ref, err := artifact.PutBytes(ctx, k.deps.Blobs, fmt.Appendf(nil, "shard %d of %s", task.Shard, task.Run.ID))
		if err != nil || task.Shard == 0 {
			return []byte(ref), err
		}
		switch task.Run.Kind {
		case "fails":
			return nil, runs.Drop(errors.New("no luck"))
		case "hangs":
			select {
			case <-ctx.Done():
			case <-never:
			}
			return nil, ctx.Err()
		}
		// A description that names another blob, as the roles store it.
		hidden, err := artifact.PutBytes(ctx, k.deps.Blobs, []byte("named by a result"))
		if err != nil {
			return nil, err
		}
		ref, err = artifact.PutBytes(ctx, k.deps.Blobs, fmt.Appendf(nil, `{"bank": %q}`, hidden))
		return []byte(ref), err
	}
	for _, kind := range []string{"works", "fails", "hangs"} {
		k.serve(t, runs.Worker{Kind: kind, Work: work, Finish: func(context.Context, runs.Run) (string, error) { return "", nil }})
	}
	named, before, deleted, asked, nameless := k.put(t, "named"), k.put(t, "before"), k.put(t, "deleted"), k.put(t, "asked"), k.put(t, "nameless")
	k.document(t, "a", before)
	k.document(t, "a", named)
	k.document(t, "b", deleted)
	if err := k.deps.Catalog.Delete(t.Context(), "sets", "b", 0); err != nil {
		t.Fatal(err)
	}
	oneDone := func(r runs.Run) bool { return r.Shards[0].Done }
	worked := k.await(t, k.submit(t, "works", 2, "{}").ID, ended)
	failed := k.await(t, k.submit(t, "fails", 2, "{}").ID, func(r runs.Run) bool { return ended(r) })
	hanging := k.await(t, k.submit(t, "hangs", 2, fmt.Sprintf(`{"of": %q}`, asked)).ID, oneDone)
	if worked.State != runs.Succeeded || failed.State != runs.Failed {
		t.Fatalf("%s, %s", worked.State, failed.State)
	}
	shard := func(r runs.Run, i int) artifact.Ref {
		return artifact.RefOf(fmt.Appendf(nil, "shard %d of %s", i, r.ID))
	}
	hidden := artifact.RefOf([]byte("named by a result"))
	live := []artifact.Ref{named, before, deleted, asked, shard(worked, 0), artifact.Ref(worked.Shards[1].Result), hidden, shard(hanging, 0)}
	if oneDone(failed) { // it may have ended before
		live = append(live, shard(failed, 0))
	}
	garbage := []artifact.Ref{nameless, shard(worked, 1), shard(failed, 1)} // put, and never committed
	k.age(t)
	rehearsal, done := k.collect(t, time.Hour, true), k.collect(t, time.Hour, false)
	if rehearsal != done || int(done.Live.Blobs) != len(live) {
		t.Errorf("a rehearsal says %+v, it was %+v; want %d live", rehearsal, done, len(live))
	}
	for _, ref := range live {
		if _, err := os.Stat(k.file(ref)); err != nil {
			t.Errorf("a blob that is named: %v", err)
		}
	}
	for _, ref := range garbage {
		if _, err := os.Stat(k.file(ref)); err == nil {
			t.Errorf("%s is named by nothing, and there", ref)
		}
	}
	// When the grace is over, what was replaced, deleted, or made by a run that succeeded counts no longer.
	time.Sleep(50 * time.Millisecond) // file systems date by a clock that ticks every 4 or 10 ms
	done = k.collect(t, time.Millisecond, false)
	for _, ref := range []artifact.Ref{before, deleted, hidden, shard(worked, 0)} {
		if _, err := os.Stat(k.file(ref)); err == nil {
			t.Errorf("%s is named by the past alone, and there: %+v", ref, done)
		}
	}
	for _, ref := range []artifact.Ref{named, asked, shard(hanging, 0)} {
		if _, err := os.Stat(k.file(ref)); err != nil {
			t.Errorf("a blob that is named: %v", err)
		}
	}
	if _, err := k.deps.Runs.Cancel(t.Context(), hanging.ID); err != nil {
		t.Fatal(err)
	}
	k.collect(t, time.Millisecond, false)
	if _, err := os.Stat(k.file(shard(hanging, 0))); err != nil {
		t.Errorf("the shard of a run that can be retried: %v", err)
	}
}

func TestNothingIsRemovedWhereSomethingCannotBeRead(t *testing.T) {
	k := newKeep(t, Config{})
	ref := k.put(t, "nameless")
	k.age(t)
	k.bus.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := k.Collect(ctx, time.Millisecond, false); err == nil || r != (Report{}) {
		t.Errorf("without a catalog: %+v, %v", r, err)
	}
	if _, err := os.Stat(k.file(ref)); err != nil {
		t.Error(err)
	}
}

func TestCheckpointsOfRunsThatAreOver(t *testing.T) {
	k := newKeep(t, Config{})
	pending := k.submit(t, "waits", 1, "{}")
	gone := "01m84wh7ypg71gy23730"
	for _, name := range []string{pending.ID + ".ckpt", gone + ".ckpt", gone + ".ckpt.tmp-123", "notes.txt", "mine.ckpt"} {
		if err := os.WriteFile(filepath.Join(k.cfg.Checkpoints, name), []byte("state"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := k.collect(t, time.Hour, false); r.Checkpoints.Blobs != 0 {
		t.Errorf("young ones are removed: %+v", r)
	}
	k.age(t)
	for _, dryRun := range []bool{true, false, false} {
		want := artifact.Amount{Blobs: 2, Bytes: 10}
		if _, err := os.Stat(filepath.Join(k.cfg.Checkpoints, gone+".ckpt")); err != nil {
			want = artifact.Amount{}
		}
		if r := k.collect(t, time.Hour, dryRun); r.Checkpoints != want {
			t.Errorf("%+v, want %+v", r.Checkpoints, want)
		}
	}
	left, err := os.ReadDir(k.cfg.Checkpoints)
	if err != nil || len(left) != 3 {
		t.Errorf("%v are left, %v", left, err)
	}
}

func TestOneProcessOfTheMeshCollects(t *testing.T) {
	k := newKeep(t, Config{Every: 2 * time.Second, Grace: time.Nanosecond})
	other, err := New(t.Context(), k.cfg, k.deps)
	if err != nil {
		t.Fatal(err)
	}
	// turned says whether a turn has collected: a nameless blob goes to the trash.
	turned := func(c *Collector) bool {
		ref := k.put(t, fmt.Sprint(rand.Int64()))
		time.Sleep(50 * time.Millisecond)
		if err := c.turn(t.Context(), "p"); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(k.file(ref))
		return err != nil
	}
	began := time.Now()
	if first, second := turned(k.Collector), turned(other); !first || second && time.Since(began) < k.cfg.Every {
		t.Errorf("the first collects: %v; the second, at once: %v", first, second)
	}
	for deadline := time.Now().Add(30 * time.Second); !turned(other); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lease does not end")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx, "p"); close(done) }()
	cancel()
	<-done
}

func TestServer(t *testing.T) {
	k := newKeep(t, Config{})
	k.document(t, "a", k.put(t, "named"))
	k.put(t, "nameless")
	k.age(t)
	s := Server{Collector: k.Collector}
	if _, err := s.CollectGarbage(t.Context(), &storev1.CollectGarbageRequest{Grace: durationpb.New(time.Second)}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a grace of a second: %v", err)
	}
	for _, dryRun := range []bool{true, false} {
		r, err := s.CollectGarbage(t.Context(), &storev1.CollectGarbageRequest{DryRun: dryRun})
		if err != nil || r.Live.Count != 1 || r.Trashed.Count != 1 || r.Trashed.Bytes != 8 || len(r.Problems) > 0 {
			t.Errorf("%v, %v", r, err)
		}
	}
}

// TestCollectBesideWork: runs store and commit blobs, many of them the same, resources come and go, and collections run
// all the time. What a document names can be read for as long as there is the document.
func TestCollectBesideWork(t *testing.T) {
	const (
		grace    = 700 * time.Millisecond
		duration = 5 * time.Second
	)
	k := newKeep(t, Config{})
	k.serve(t, runs.Worker{
		Kind: "makes", Concurrency: 4,
		Work: func(ctx context.Context, task *runs.Task) ([]byte, error) {
			inner, err := artifact.PutBytes(ctx, k.deps.Blobs, fmt.Appendf(nil, "bulk %d", rand.IntN(30)))
			if err != nil {
				return nil, err
			}
			ref, err := artifact.PutBytes(ctx, k.deps.Blobs, fmt.Appendf(nil, `{"bulk": %q}`, inner))
			return []byte(ref), err
		},
		Finish: func(ctx context.Context, run runs.Run) (string, error) {
			doc, err := artifact.ReadAll(ctx, k.deps.Blobs, artifact.Ref(run.Shards[0].Result), 1<<10)
			if err != nil {
				return "", err
			}
			_, err = k.deps.Catalog.Put(ctx, "sets", run.ID, doc, 0)
			return "sets/" + run.ID, err
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex
	var total Report
	for range 2 {
		group.Go(func() {
			for ctx.Err() == nil {
				r, err := k.Collect(context.Background(), grace, false)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				total.Trashed.Blobs += r.Trashed.Blobs
				total.Removed.Blobs += r.Removed.Blobs
				mu.Unlock()
			}
		})
	}
	made := 0
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				run, _, err := k.deps.Runs.Submit(context.Background(), runs.Spec{Kind: "makes"})
				if err != nil {
					t.Error(err)
					return
				}
				for !run.State.Terminal() {
					time.Sleep(20 * time.Millisecond)
					if run, err = k.deps.Runs.Get(context.Background(), run.ID); err != nil {
						t.Error(err)
						return
					}
				}
				if run.State != runs.Succeeded {
					t.Errorf("a run ended as %s: %+v", run.State, run.Failure)
				}
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
				doc, err := k.deps.Catalog.Get(context.Background(), "sets", run.ID)
				if err != nil {
					t.Error(err)
					return
				}
				for _, name := range named.FindAll(doc.JSON, -1) {
					if _, err := artifact.ReadAll(context.Background(), k.deps.Blobs, artifact.Ref(name), 1<<10); err != nil {
						t.Errorf("a blob of a document: %v", err)
					}
				}
				if err := k.deps.Catalog.Delete(context.Background(), "sets", run.ID, 0); err != nil {
					t.Error(err)
				}
				mu.Lock()
				made++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d documents made and read; %d blobs moved to the trash, %d removed", made, total.Trashed.Blobs, total.Removed.Blobs)
	if made < 4 || total.Trashed.Blobs == 0 {
		t.Error("there was too little to do")
	}
}
