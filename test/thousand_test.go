package test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// thousand is the record of TestThousand.
type thousand struct {
	Name     string        `json:"name"`
	Date     string        `json:"date"`
	Commit   string        `json:"commit"`
	CPU      string        `json:"cpu"`
	Cores    int           `json:"cores"`
	Setting  string        `json:"setting"`
	PerClass int           `json:"per_class"`
	Steps    int           `json:"steps"`
	Sets     []thousandSet `json:"sets"`
	Same     bool          `json:"same"`
}

type thousandSet struct {
	Set      string  `json:"set"`
	Gate     string  `json:"gate,omitempty"`
	Workers  int     `json:"workers"`
	Batch    int     `json:"batch"`
	Shards   int     `json:"shards"`
	Kills    int     `json:"kills"` // with SIGKILL
	Seconds  float64 `json:"seconds"`
	Pictures int     `json:"pictures"`
	Tried    int     `json:"tried,omitempty"`
	PNGs     string  `json:"pngs"`    // sha256 over the lines "SHA256 FILE" of all pictures, sorted by file
	Records  string  `json:"records"` // sha256 over their records, in this order
}

// TestThousand renders sets with one generator that nobody disturbs, and then with several that are killed again and
// again, in other batches and another cut: the same pictures, none lost and none twice. DREAMOOD_THOUSAND names the
// record, DREAMOOD_THOUSAND_PER_CLASS the size (make thousand). TestGate is its short version.
func TestThousand(t *testing.T) {
	path := os.Getenv("DREAMOOD_THOUSAND")
	if path == "" {
		t.Skip("renders thousands of pictures: make thousand")
	}
	perClass := 100
	if n, err := strconv.Atoi(os.Getenv("DREAMOOD_THOUSAND_PER_CLASS")); err == nil {
		perClass = n
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Hour)
	defer cancel()
	w := newThousandMesh(ctx, t)
	r := thousand{Name: "thousand", Date: time.Now().UTC().Format(time.RFC3339), Commit: commit(t), CPU: cpu(), Cores: runtime.NumCPU(), PerClass: perClass, Steps: 4,
		Setting: "reference model, 10 classes, ddim; processes of the real program, NATS server of its own, one folder"}
	gate := &generatorv1.Gate{Detector: w.detector, LeakConfidence: 0.3, LeakQuantile: 0.05, DuplicateBits: proto.Int32(10), MaxAttempts: 3}

	w.generators(t, 1, "--batch", "16")
	calm := []thousandSet{w.render(ctx, t, "calm", perClass, nil, nil), w.render(ctx, t, "calm-chosen", perClass, gate, nil)}
	w.stop("generator-0")
	for i := range calm {
		calm[i].Workers, calm[i].Batch = 1, 16
	}
	w.generators(t, 3, "--batch", "5", "--shard-size", "17")
	stormy := []thousandSet{w.render(ctx, t, "stormy", perClass, nil, w.storm), w.render(ctx, t, "stormy-chosen", perClass, gate, w.storm)}
	for i := range stormy {
		stormy[i].Workers, stormy[i].Batch = 3, 5
	}
	r.Same = true
	for i := range calm {
		r.Sets = append(r.Sets, calm[i], stormy[i])
		if calm[i].PNGs != stormy[i].PNGs || calm[i].Records != stormy[i].Records || calm[i].Pictures != stormy[i].Pictures {
			r.Same = false
			t.Errorf("%s and %s differ: %+v, %+v", calm[i].Set, stormy[i].Set, calm[i], stormy[i])
		}
		if stormy[i].Kills == 0 {
			t.Errorf("nobody was killed while %s was rendered", stormy[i].Set)
		}
	}
	if want := 10 * perClass; calm[0].Pictures != want {
		t.Errorf("%d pictures, want %d", calm[0].Pictures, want)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// thousandMesh is a mesh whose generators come and go.
type thousandMesh struct {
	*processes
	space, detector string
	conn            *grpc.ClientConn // to the trainer, which shows every run
	flags           []string
	names           []string
}

func newThousandMesh(ctx context.Context, t *testing.T) *thousandMesh {
	dir := t.TempDir()
	p := &processes{dir: dir, program: build(t, dir, "dreamood", "../cmd/dreamood"), data: filepath.Join(dir, "data"), roles: map[string]*process{}, addresses: map[string]string{}}
	p.nats = startNATS(t, dir)
	for _, role := range []string{"embedder", "sampler", "generator", "trainer"} {
		p.start(t, role, "127.0.0.1:0")
	}
	w := &thousandMesh{processes: p, conn: p.dial(t, "trainer")}
	training := trainingSet(t, dir)
	e, err := embedderv1.NewEmbedderServiceClient(p.dial(t, "embedder")).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
		SpaceId: "thousand", Dataset: training, Training: &embedderv1.SpaceTraining{Epochs: 4, Width: 16, BankPerClass: 100, BatchSize: 64},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.space = succeed(ctx, t, w.conn, e.Run)
	d, err := trainerv1.NewTrainerServiceClient(w.conn).TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: "thousand", Dataset: training, TestDataset: sample(t, "cifar10_test.zip"), Training: &trainerv1.DetectorTraining{Epochs: 4, Width: 16, BatchSize: 64},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.detector = succeed(ctx, t, w.conn, d.Run)
	p.roles["generator"].kill() // it was only the trainer's peer
	return w
}

// generators starts n of them.
func (w *thousandMesh) generators(t *testing.T, n int, flags ...string) {
	w.flags, w.names = flags, nil
	for i := range n {
		w.names = append(w.names, fmt.Sprintf("generator-%d", i))
		w.generator(t, w.names[i])
	}
}

func (w *thousandMesh) generator(t *testing.T, name string) {
	args := append([]string{"serve", "--output", "json", "--target", "generator", "--listen", "127.0.0.1:0", "--nats", w.nats, "--data", w.data, "--models", "../models",
		"--embedder", w.addresses["embedder"], "--sampler", w.addresses["sampler"], "--trainer", w.addresses["trainer"]}, w.flags...)
	w.roles[name] = launch(t, w.dir, name, w.program, args...)
	w.addresses[name] = w.roles[name].address(t)
}

func (w *thousandMesh) stop(name string) { w.roles[name].kill() }

// storm kills a generator that is picked at random, with SIGKILL, and starts another one, up to seven times. A shard whose
// process dies three times under it fails its run, by design; so a kill waits until others have got on.
func (w *thousandMesh) storm(ctx context.Context, t *testing.T, run *runv1.Run) (kills int) {
	random := rand.New(rand.NewPCG(7, uint64(len(run.Name))))
	client := runv1.NewRunServiceClient(w.conn)
	for {
		select {
		case <-time.After(time.Duration(8000+random.IntN(10000)) * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		g, err := client.GetRun(ctx, &runv1.GetRunRequest{Name: run.Name})
		if err != nil {
			t.Fatal(err)
		}
		if s := g.Run.State; s != runv1.RunState_RUN_STATE_RUNNING && s != runv1.RunState_RUN_STATE_PENDING {
			return kills
		}
		if kills >= 7 { // the rest in peace
			continue
		}
		name := w.names[1+random.IntN(len(w.names)-1)] // the first stays, so that its lists can be read
		w.roles[name].kill()
		kills++
		w.generator(t, name)
	}
}

// render renders a set and adds it up.
func (w *thousandMesh) render(ctx context.Context, t *testing.T, id string, perClass int, gate *generatorv1.Gate, disturb func(context.Context, *testing.T, *runv1.Run) int) thousandSet {
	conn, err := rpc.Dial(w.addresses[w.names[0]])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := generatorv1.NewGeneratorServiceClient(conn)
	began := time.Now()
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{
		SetId: id, Space: w.space, PerClass: int32(perClass), Gate: gate, Rendering: &generatorv1.Rendering{Steps: 4, Scheduler: "ddim"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := thousandSet{Set: id, Shards: int(r.Run.Shards)}
	if disturb != nil {
		s.Kills = disturb(ctx, t, r.Run)
	}
	name := succeed(ctx, t, w.conn, r.Run)
	s.Seconds = float64(time.Since(began).Round(100*time.Millisecond)) / 1e9
	g, err := client.GetSet(ctx, &generatorv1.GetSetRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if gate != nil {
		s.Gate = "leak confidence 0.3, leak quantile 0.05, duplicates of 10 bits, 3 candidates per picture"
		for _, y := range g.Set.Yields {
			s.Tried += int(y.Tried)
			t.Logf("%s: %v", id, y)
		}
	}
	files, records := map[string]string{}, map[string][]byte{}
	for _, p := range stream(ctx, t, client, name, false) {
		f := p.Record.File
		if _, twice := files[f]; twice {
			t.Errorf("%s has %s twice", id, f)
		}
		sum := sha256.Sum256(p.Png)
		files[f] = hex.EncodeToString(sum[:])
		if records[f], err = (proto.MarshalOptions{Deterministic: true}).Marshal(p.Record); err != nil {
			t.Fatal(err)
		}
	}
	pngs, lines := sha256.New(), sha256.New()
	for _, f := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(pngs, "%s %s\n", files[f], f)
		lines.Write(records[f])
	}
	s.Pictures, s.PNGs, s.Records = len(files), hex.EncodeToString(pngs.Sum(nil)), hex.EncodeToString(lines.Sum(nil))
	t.Logf("%+v", s)
	return s
}

func commit(t *testing.T) string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		t.Log(err)
	}
	return strings.TrimSpace(string(out))
}

func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	text, _ := io.ReadAll(f)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
