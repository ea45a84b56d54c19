package sampler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// one and two are banks that no store has.
var one, two = string(artifact.RefOf([]byte("one"))), string(artifact.RefOf([]byte("two")))

// pack is a mesh of samplers: a NATS server, a folder of blobs and the kennel.
type pack struct {
	bus   *bus.Bus
	dir   string
	blobs *artifact.Files
	pets  *kennel
}

func newPack(t *testing.T) *pack {
	t.Helper()
	p := &pack{dir: t.TempDir()}
	_, _, p.pets = pets(t, Config{})
	var err error
	for i, m := range p.pets.banks { // as the embedder keeps them
		if p.pets.banks[i], err = m.Normalised(); err != nil {
			t.Fatal(err)
		}
	}
	p.pets.ref.Store(one)
	if p.blobs, err = artifact.NewFiles(p.dir); err != nil {
		t.Fatal(err)
	}
	p.bus = p.connect(t, bus.Config{Dir: filepath.Join(p.dir, "nats"), NoSync: true, Listen: "127.0.0.1:0"})
	return p
}

func (p *pack) connect(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// keep stores the banks as the embedder does, so that samplers can map them.
func (p *pack) keep(t *testing.T) artifact.Ref {
	t.Helper()
	var all []float32
	rows := 0
	for _, m := range p.pets.banks {
		all = append(all, m.Data...)
		rows += m.Rows
	}
	var file bytes.Buffer
	if err := npy.Write(&file, all, rows, p.pets.banks[0].Cols); err != nil {
		t.Fatal(err)
	}
	ref, err := artifact.PutBytes(t.Context(), p.blobs, file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	p.pets.ref.Store(string(ref))
	return ref
}

// watched is an embedder client that tells of every question about a space.
type watched struct {
	embedderv1.EmbedderServiceClient
	asked func(context.Context)
}

func (w watched) GetSpace(ctx context.Context, q *embedderv1.GetSpaceRequest, opts ...grpc.CallOption) (*embedderv1.GetSpaceResponse, error) {
	if w.asked != nil {
		w.asked(ctx)
	}
	return w.EmbedderServiceClient.GetSpace(ctx, q, opts...)
}

// replica is a sampler of the mesh.
type replica struct {
	*Service
	client samplerv1.SamplerServiceClient
	embeds *watched
}

func (p *pack) replica(t *testing.T, b *bus.Bus, cfg Config) *replica {
	t.Helper()
	log := zap.NewNop()
	queue, err := runs.New(t.Context(), runs.Config{
		Kinds: []string{KindSampleSet}, AckWait: 800 * time.Millisecond, Heartbeat: 100 * time.Millisecond, Backoff: 20 * time.Millisecond,
		Poll: 100 * time.Millisecond, ReportEvery: 20 * time.Millisecond, ReconcileEvery: 100 * time.Millisecond, CommitWait: time.Second,
	}, runs.Deps{JS: b.JetStream(), Reason: func(err error) string { return string(fault.ReasonOf(err)) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(queue.Close)
	documents, err := catalog.New(t.Context(), b.JetStream(), catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	local := rpc.NewLocal()
	conn, err := local.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := &replica{client: samplerv1.NewSamplerServiceClient(conn), embeds: &watched{EmbedderServiceClient: embedderv1.NewEmbedderServiceClient(conn)}}
	r.Service, err = New(cfg, Deps{Runs: queue, Catalog: documents, Blobs: p.blobs, Embedder: r.embeds, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.Config{DrainTimeout: time.Second}, log)
	embedderv1.RegisterEmbedderServiceServer(server, p.pets)
	r.Register(server)
	server.Start(local)
	t.Cleanup(server.Stop)
	return r
}

// serve takes shards from the queue until the returned stop, or the end of the test.
func (r *replica) serve(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); group.Wait() }
	t.Cleanup(stop)
	return stop
}

// submit starts a run and returns its id.
func (r *replica) submit(t *testing.T, q *samplerv1.SampleSetRequest) string {
	t.Helper()
	answer, err := r.client.SampleSet(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ood.Runs.ID(answer.Run.Name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// await follows a run to its end.
func (r *replica) await(t *testing.T, id string) runs.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.deps.Runs.Watch(ctx, id, 0, func(runs.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	run, err := r.deps.Runs.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// set waits for a run that must end well, and returns what it made.
func (r *replica) set(t *testing.T, id string) (*samplerv1.EmbeddingSet, runs.Run) {
	t.Helper()
	run := r.await(t, id)
	if run.State != runs.Succeeded || run.Progress.Done != run.Progress.Total {
		t.Fatalf("the run is %s at %+v: %+v", run.State, run.Progress, run.Failure)
	}
	got, err := r.client.GetEmbeddingSet(t.Context(), &samplerv1.GetEmbeddingSetRequest{Name: run.Result})
	if err != nil {
		t.Fatal(err)
	}
	return got.Set, run
}

// rows are what StreamEmbeddingSet sends.
func (r *replica) rows(t *testing.T, q *samplerv1.StreamEmbeddingSetRequest) ([]*samplerv1.Outlier, error) {
	t.Helper()
	stream, err := r.client.StreamEmbeddingSet(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var out []*samplerv1.Outlier
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, answer.Outlier)
	}
}

// few are settings under which a round is 12 samples of any class.
func few(method string) *samplerv1.Sampling {
	return &samplerv1.Sampling{Method: method, K: 4, Select: 8, Pick: 6, Noises: 20, Keep: 2, Seed: 3}
}

func TestSampleSetIsWhatSampleOutliersGives(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{ShardSize: 30})
	r.serve(t)
	q := &samplerv1.SampleSetRequest{SetId: "all", Space: "spaces/pets", PerClass: 100, Sampling: few("knn"), RequestId: "one"}
	set, run := r.set(t, r.submit(t, q))
	if run.Kind != "sample-set" || run.Target != "embeddings/all" || run.Progress.Unit != "embeddings" || run.Progress.Total != 300 || run.ShardCount != 12 {
		t.Errorf("run %+v", run)
	}
	if set.Name != "embeddings/all" || set.Space != "spaces/pets" || set.Bank != one || set.PerClass != 100 || set.Dimension != 16 || set.Embeddings != 300 || len(set.Shards) != 12 {
		t.Errorf("set %v", set)
	}
	var want []*samplerv1.Outlier
	for i, class := range pet {
		c := set.Classes[i]
		if c.Name != class || c.Word != "a "+class || int(c.BankSize) != p.pets.banks[i].Rows || c.Sampling.K != 4 || !(c.Sampling.Sigma > 0) {
			t.Errorf("class %v", c)
		}
		out, err := sample(t, r.client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: class, Count: 100, Sampling: few("knn"), WithoutReport: true})
		if err != nil {
			t.Fatal(err)
		}
		if out[3].Rank != 1 || out[3].Class != class {
			t.Errorf("sample %v", out[3])
		}
		want = append(want, out...)
	}
	for _, c := range []struct {
		q    *samplerv1.StreamEmbeddingSetRequest
		want []*samplerv1.Outlier
	}{
		{&samplerv1.StreamEmbeddingSetRequest{}, want},
		{&samplerv1.StreamEmbeddingSetRequest{Class: "cat"}, want[100:200]},
		{&samplerv1.StreamEmbeddingSetRequest{Class: "dog", Offset: 23, Count: 40}, want[223:263]},
		{&samplerv1.StreamEmbeddingSetRequest{Class: "dog", Offset: 99, Count: 40}, want[299:]},
		{&samplerv1.StreamEmbeddingSetRequest{Offset: 98}, slices.Concat(want[98:100], want[198:200], want[298:])},
		{&samplerv1.StreamEmbeddingSetRequest{Offset: 50, Count: 1}, []*samplerv1.Outlier{want[50], want[150], want[250]}},
	} {
		c.q.Name = set.Name
		got, err := r.rows(t, c.q)
		if err != nil || !slices.EqualFunc(got, c.want, func(a, b *samplerv1.Outlier) bool { return proto.Equal(a, b) }) {
			t.Errorf("%v: %d embeddings, want %d, %v", c.q, len(got), len(c.want), err)
		}
	}
	// The rows of the shards, one after another, are the array of the published layout.
	var data []float32
	for _, s := range set.Shards {
		if int(s.First)*16 != len(data) {
			t.Errorf("shard %v after %d rows", s, len(data)/16)
		}
		file, err := p.blobs.Open(t.Context(), artifact.Ref(s.Embeddings))
		if err != nil {
			t.Fatal(err)
		}
		part, _, err := npy.Read(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, part...)
	}
	for i, o := range want {
		if !slices.Equal(data[i*16:(i+1)*16], o.Values) {
			t.Fatalf("row %d of the array differs", i)
		}
	}
	if again := r.submit(t, q); again != run.ID {
		t.Errorf("the same request made run %s after %s", again, run.ID)
	}
	list, err := r.client.ListEmbeddingSets(t.Context(), &samplerv1.ListEmbeddingSetsRequest{})
	if err != nil || len(list.Sets) != 1 || list.Sets[0].Embeddings != 300 || list.Sets[0].Shards != nil || list.Sets[0].Classes[2].Name != "dog" {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := r.client.DeleteEmbeddingSet(t.Context(), &samplerv1.DeleteEmbeddingSetRequest{Name: set.Name}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.rows(t, &samplerv1.StreamEmbeddingSetRequest{Name: set.Name}); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("a deleted set: %v", err)
	}
}

// TestEveryMethodMakesASet, also with rounds that the shards know nothing about, and with classes in an order of their own.
func TestEveryMethodMakesASet(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{ShardSize: 7})
	r.serve(t)
	for _, m := range Methods() {
		q := &samplerv1.SampleSetRequest{SetId: "by-" + m.Name(), Space: "spaces/pets", Classes: []string{"dog", "ant"}, PerClass: 20,
			Sampling: &samplerv1.Sampling{Method: m.Name(), Seed: 2, K: 3, Noises: min(int32(m.Defaults().Noises), 200)}}
		if m.Name() == "boundary" { // which gives one for each embedding of the class, at most
			_, err := r.client.SampleSet(t.Context(), q)
			if v := violations(err); len(v) != 1 || v[0].Field != "per_class" || !strings.Contains(v[0].Problem, "dog") {
				t.Errorf("20 samples of 10 embeddings: %v", err)
			}
			q.PerClass = 9
		}
		set, _ := r.set(t, r.submit(t, q))
		got, err := r.rows(t, &samplerv1.StreamEmbeddingSetRequest{Name: set.Name, Class: "ant", Offset: 4, Count: 5})
		want, wantErr := sample(t, r.client, &samplerv1.SampleOutliersRequest{Space: q.Space, Class: "ant", Offset: 4, Count: 5, Sampling: q.Sampling, WithoutReport: true})
		if err := errors.Join(err, wantErr); err != nil || len(got) != 5 {
			t.Errorf("%s: %d embeddings, %v", m.Name(), len(got), err)
			continue
		}
		for i := range want {
			if !proto.Equal(got[i], want[i]) {
				t.Errorf("%s: %v, want %v", m.Name(), got[i], want[i])
			}
		}
	}
}

// TestTwoReplicasShareARun, and give what one gives.
func TestTwoReplicasShareARun(t *testing.T) {
	p := newPack(t)
	cfg := Config{ShardSize: 30}
	alone := p.replica(t, p.bus, cfg)
	stop := alone.serve(t)
	q := &samplerv1.SampleSetRequest{SetId: "alone", Space: "spaces/pets", PerClass: 100, Sampling: few("knn")}
	want, _ := alone.set(t, alone.submit(t, q))
	stop()

	var both [2]*replica
	var began [2]chan struct{}
	for i := range both {
		b := p.connect(t, bus.Config{URL: p.bus.URL()})
		both[i], began[i] = p.replica(t, b, cfg), make(chan struct{})
	}
	q.SetId = "together"
	id := both[0].submit(t, q)
	for i, r := range both { // each goes on when the other has a shard too
		var once sync.Once
		r.embeds.asked = func(ctx context.Context) {
			once.Do(func() { close(began[i]) })
			select {
			case <-began[1-i]:
			case <-ctx.Done():
			}
		}
		r.serve(t)
	}
	got, run := both[1].set(t, id)
	for _, s := range run.Shards {
		if s.Attempt != 1 {
			t.Errorf("a shard took %d attempts: %s", s.Attempt, s.Error)
		}
	}
	got.Name, got.CreateTime, got.Run = want.Name, want.CreateTime, want.Run
	if !proto.Equal(got, want) {
		t.Errorf("together %v\nalone %v", got, want)
	}
}

// TestShardsAreDeterministic computes every shard on two replicas with stores of their own.
func TestShardsAreDeterministic(t *testing.T) {
	here, there := newPack(t), newPack(t)
	a, b := here.replica(t, here.bus, Config{ShardSize: 40}), there.replica(t, there.bus, Config{ShardSize: 40, Prepared: 1})
	id := a.submit(t, &samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: 90, Sampling: few("inlier")})
	run, err := a.deps.Runs.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for shard := range run.ShardCount {
		first, err := a.work(t.Context(), &runs.Task{Run: run, Shard: shard})
		if err != nil {
			t.Fatal(err)
		}
		seen[string(first)] = true
		for range 2 {
			if again, err := b.work(t.Context(), &runs.Task{Run: run, Shard: shard}); err != nil || !bytes.Equal(first, again) {
				t.Errorf("shard %d is %s on one replica and %s on another, %v", shard, first, again, err)
			}
		}
	}
	if len(seen) != run.ShardCount || run.ShardCount != 9 {
		t.Errorf("%d results of %d shards", len(seen), run.ShardCount)
	}
}

func TestSampleSetAdmits(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{})
	stop := r.serve(t)
	r.set(t, r.submit(t, &samplerv1.SampleSetRequest{SetId: "taken", Space: "spaces/pets", PerClass: 1, Sampling: few("")}))
	stop()
	r.submit(t, &samplerv1.SampleSetRequest{SetId: "coming", Space: "spaces/pets", PerClass: 1, Sampling: few("")})
	for name, c := range map[string]struct {
		q      *samplerv1.SampleSetRequest
		reason fault.Reason
		fields []string
		text   string
	}{
		"nothing":        {&samplerv1.SampleSetRequest{}, fault.InvalidArgument, []string{"set_id", "per_class", "space"}, "want 1 to 63"},
		"no space":       {&samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/zoo", PerClass: 1}, fault.NotFound, nil, "spaces/zoo"},
		"a taken id":     {&samplerv1.SampleSetRequest{SetId: "taken", Space: "spaces/pets", PerClass: 1}, fault.AlreadyExists, nil, "embeddings/taken"},
		"an id to be":    {&samplerv1.SampleSetRequest{SetId: "coming", Space: "spaces/pets", PerClass: 1}, fault.AlreadyExists, nil, "embeddings/coming"},
		"too many":       {&samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: MaxCount + 1}, fault.InvalidArgument, []string{"per_class"}, "want 1 to 1000000"},
		"unknown method": {&samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: 1, Sampling: &samplerv1.Sampling{Method: "vos"}}, fault.InvalidArgument, []string{"sampling.method"}, "there are knn"},
		"what fits one class and not the others": {&samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: 1, Sampling: &samplerv1.Sampling{K: 30}},
			fault.InvalidArgument, []string{"sampling.k", "sampling.k"}, "(in dog)"},
		"all at once": {&samplerv1.SampleSetRequest{SetId: "No", Space: "spaces/pets", Classes: []string{"cat", "cow", "cat"}, PerClass: 0, Sampling: &samplerv1.Sampling{K: 99, Sigma: -1}},
			fault.InvalidArgument, []string{"set_id", "per_class", "classes[1]", "classes[2]", "sampling.k", "sampling.sigma"}, "named twice"},
		"what only the method knows": {&samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: 1, Sampling: &samplerv1.Sampling{Method: "pca-shell", K: 3, Lower: 0.9, Upper: 0.5}},
			fault.InvalidArgument, []string{"sampling.upper"}, "upper"},
	} {
		_, err := r.client.SampleSet(t.Context(), c.q)
		var fields []string
		for _, v := range violations(err) {
			fields = append(fields, v.Field)
		}
		if fault.ReasonOf(err) != c.reason || !slices.Equal(fields, c.fields) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v (%q); want %q and %q", name, err, fields, c.fields, c.text)
		}
	}
	list, _, err := r.deps.Runs.List(t.Context(), runs.Filter{}, 10, "")
	if err != nil || len(list) != 2 {
		t.Errorf("%d runs, %v: what is refused must not be queued", len(list), err)
	}
}

func TestStreamEmbeddingSetRefuses(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{})
	r.serve(t)
	set, _ := r.set(t, r.submit(t, &samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", PerClass: 30, Sampling: few("")}))
	for field, q := range map[string]*samplerv1.StreamEmbeddingSetRequest{
		"name":   {Name: "x"},
		"class":  {Name: set.Name, Class: "cow"},
		"offset": {Name: set.Name, Offset: 30},
		"count":  {Name: set.Name, Count: -1},
	} {
		if out, err := r.rows(t, q); len(out) != 0 || len(violations(err)) != 1 || violations(err)[0].Field != field {
			t.Errorf("%s: %d rows, %v", field, len(out), err)
		}
	}
	if len(set.Shards) != 1 {
		t.Fatal(set)
	}
	for _, ref := range []string{set.Shards[0].Embeddings, set.Shards[0].Records} {
		digits := artifact.Ref(ref).Hex()
		path := filepath.Join(p.dir, "blobs", "sha256", digits[:2], digits)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, damage := range map[string][]byte{
			"cut": raw[:len(raw)-1], "cut in the header": raw[:20], "a bit in the last row": append(bytes.Clone(raw[:len(raw)-1]), raw[len(raw)-1]^1), "empty": {},
		} {
			if err := os.WriteFile(path, damage, 0o640); err != nil {
				t.Fatal(err)
			}
			if out, err := r.rows(t, &samplerv1.StreamEmbeddingSetRequest{Name: set.Name, Count: 1}); err == nil {
				t.Errorf("%s, %s: %d rows without an error", ref, name, len(out))
			}
		}
		if err := os.WriteFile(path, raw, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := r.rows(t, &samplerv1.StreamEmbeddingSetRequest{Name: set.Name}); err != nil || len(out) != 90 {
		t.Errorf("mended: %d rows, %v", len(out), err)
	}
}

// TestCancelSampleSet cancels in the middle of a shard: the work ends, and what it wrote is removed.
func TestCancelSampleSet(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{ShardSize: 1_000_000})
	q := &samplerv1.SampleSetRequest{SetId: "much", Space: "spaces/pets", PerClass: 1_000_000, Sampling: few("")}
	id := r.submit(t, q)
	stop := r.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	under := errors.New("under way")
	err := r.deps.Runs.Watch(ctx, id, 0, func(e runs.Event) error {
		if e.Run.Progress.Done > 0 {
			return under
		}
		return nil
	})
	if !errors.Is(err, under) {
		t.Fatal(err)
	}
	if _, err := r.deps.Runs.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	if run := r.await(t, id); run.State != runs.Cancelled {
		t.Fatalf("the run is %s", run.State)
	}
	stop() // returns when the work has
	left, err := os.ReadDir(filepath.Join(p.dir, "blobs", "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := r.client.GetEmbeddingSet(t.Context(), &samplerv1.GetEmbeddingSetRequest{Name: "embeddings/much"}); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("the set of a cancelled run: %v", err)
	}
	q.PerClass = 3
	r.serve(t)
	r.set(t, r.submit(t, q)) // the id is free
}

// TestKilledReplica takes the connection away from one that holds a shard: another one gets the shard and finishes.
func TestKilledReplica(t *testing.T) {
	p := newPack(t)
	b := p.connect(t, bus.Config{URL: p.bus.URL()})
	killed, sound := p.replica(t, b, Config{ShardSize: 30}), p.replica(t, p.bus, Config{ShardSize: 30})
	id := sound.submit(t, &samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", Classes: []string{"cat"}, PerClass: 100, Sampling: few("")})
	began, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	killed.embeds.asked = func(context.Context) {
		once.Do(func() { close(began) })
		<-wake
	}
	killed.serve(t)
	t.Cleanup(func() { close(wake) }) // before the cleanup that waits for the worker
	<-began
	b.Conn().Close()
	sound.serve(t)
	set, run := sound.set(t, id)
	attempts := 0
	for _, s := range run.Shards {
		attempts += s.Attempt
	}
	if attempts != run.ShardCount+1 || set.Embeddings != 100 {
		t.Errorf("%d attempts at %d shards; want one more, for the one that was held", attempts, run.ShardCount)
	}
}

// TestTrainedAgainWhileSampled: the shards of a set come from one bank.
func TestTrainedAgainWhileSampled(t *testing.T) {
	p := newPack(t)
	r := p.replica(t, p.bus, Config{ShardSize: 30})
	id := r.submit(t, &samplerv1.SampleSetRequest{SetId: "x", Space: "spaces/pets", Classes: []string{"cat"}, PerClass: 100, Sampling: few("")})
	questions := 0
	r.embeds.asked = func(context.Context) {
		if questions++; questions == 3 {
			p.pets.ref.Store(two)
		}
	}
	r.serve(t)
	run := r.await(t, id)
	if run.State != runs.Failed || run.Failure.Reason != string(fault.FailedPrecondition) || !strings.Contains(run.Failure.Message, "trained again") {
		t.Errorf("the run is %s: %+v", run.State, run.Failure)
	}
}

// TestSetDocumentFits builds a set of ImageNet's classes with as many shards as there may be: a document is a message of
// NATS, of 1 MiB at most.
func TestSetDocumentFits(t *testing.T) {
	set := &samplerv1.EmbeddingSet{Name: "embeddings/" + strings.Repeat("x", 63), Space: "spaces/" + strings.Repeat("y", 63), Bank: one, PerClass: MaxCount, Dimension: 768, Embeddings: 1e9}
	for range 1000 {
		set.Classes = append(set.Classes, &samplerv1.EmbeddingClass{Name: strings.Repeat("c", 40), Word: strings.Repeat("w", 40), BankSize: 1_000_000,
			Sampling: Message("pca-shell", Params{K: 300_000, Select: 200_000, Pick: 100_000, Noises: 100_000, Sigma: 1.0 / 3e-7, Keep: 100_000, Seed: 1 << 63, Mode: ModeReference,
				Alpha: 1. / 3, Steps: 1000, Beyond: 1000, Lower: 1. / 3, Upper: 2. / 3})})
	}
	for i := range maxShards {
		set.Shards = append(set.Shards, &samplerv1.EmbeddingShard{Embeddings: one, Records: two, First: 1e8 + int64(i), Count: 1e6})
	}
	doc, err := protojson.Marshal(set)
	if err != nil || len(doc) > 1<<20-4096 {
		t.Errorf("%d bytes, %v", len(doc), err)
	}
	t.Logf("%d bytes", len(doc))
}
