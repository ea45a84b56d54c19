package test

import (
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// moment is one at which a generator is killed in the middle of a shard.
type moment struct {
	name string
	long bool                                        // for make chaos
	kill func(t *testing.T, p *process, ckpt string) // returns when the process is dead
	fits func(k kept) bool                           // what the checkpoint must be then
}

// kept is what a checkpoint of a shard holds, see services/generator/checkpoint.go.
type kept struct {
	there    bool
	Pictures []struct{ SHA256 string }
	Batch    *struct{ Done int }
}

var moments = []moment{
	{"before the first checkpoint", true, func(t *testing.T, p *process, ckpt string) {
		killAt(t, p, renameat, entry, ckpt+".tmp-", 1) // it is written, and has no name yet
	}, func(k kept) bool { return !k.there }},
	{"while a checkpoint replaces one", false, func(t *testing.T, p *process, ckpt string) {
		until(t, ckpt, func(k kept) bool { return k.there })
		killAt(t, p, renameat, entry, ckpt+".tmp-", 1)
	}, func(k kept) bool { return k.there && k.Batch != nil }},
	{"just after a checkpoint", true, func(t *testing.T, p *process, ckpt string) {
		until(t, ckpt, func(k kept) bool { return k.there })
		killAt(t, p, renameat, exit, ckpt+".tmp-", 1)
	}, func(k kept) bool { return k.there && k.Batch != nil }},
	{"between two calls of the U-Net, a batch is done", true, func(t *testing.T, p *process, ckpt string) {
		until(t, ckpt, func(k kept) bool { return len(k.Pictures) > 0 && k.Batch != nil })
		p.watch()
		p.kill()
	}, func(k kept) bool { return len(k.Pictures) > 0 }},
	{"the blob of the shard is stored, its checkpoint still there", true, func(t *testing.T, p *process, ckpt string) {
		killAt(t, p, unlinkat, entry, ckpt+"\x00", 1)
	}, func(k kept) bool { return k.there }},
	{"the blob is stored, its checkpoint gone, the run does not know", true, func(t *testing.T, p *process, ckpt string) {
		killAt(t, p, unlinkat, exit, ckpt+"\x00", 1)
	}, func(k kept) bool { return !k.there }},
}

// TestGeneratorKilledInMidShard kills a generator with SIGKILL at moments in the middle of a shard, each in a run of its
// own. The next process goes on from the checkpoint: it makes the calls of the U-Net that this does not cover, no more
// and no fewer, and the pictures are those that nobody disturbed. `make chaos` has all moments.
func TestGeneratorKilledInMidShard(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for a minute")
	}
	t.Setenv("DREAMOOD_METRICS", "127.0.0.1:0")
	t.Setenv("DREAMOOD_BATCH", strconv.Itoa(killedBatch))
	t.Setenv("DREAMOOD_SHARD_SIZE", "10") // all pictures in one, on a slow machine too
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir := t.TempDir()
	p := &processes{
		dir: dir, program: build(t, dir, "dreamood", "../cmd/dreamood"), nats: startNATS(t, dir), data: filepath.Join(dir, "data"),
		roles: map[string]*process{}, addresses: map[string]string{}, traced: "generator",
	}
	p.start(t, "embedder", "127.0.0.1:0")
	p.start(t, "sampler", "127.0.0.1:0")
	p.start(t, "generator", "127.0.0.1:0")
	embedder := p.dial(t, "embedder")
	space := trainSpace(ctx, t, mesh{embedder: embedder, training: trainingSet(t, dir)})
	render := func(id string) *runv1.Run {
		r, err := generatorv1.NewGeneratorServiceClient(p.dial(t, "generator")).RenderSet(ctx, &generatorv1.RenderSetRequest{
			SetId: id, Space: space.Name, PerClass: 1, Rendering: &generatorv1.Rendering{Steps: killedSteps},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Run.Shards != 1 {
			t.Fatalf("%d shards, want all pictures in one", r.Run.Shards)
		}
		return r.Run
	}
	want := files(ctx, t, p.dial(t, "generator"), succeed(ctx, t, embedder, render("undisturbed")))
	calls, batches := p.unet(t)
	each := calls / batches

	whole := t // the generator that goes on serves the next moment too
	for i, m := range moments {
		if m.long && os.Getenv("DREAMOOD_CHAOS") == "" {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			run := render(fmt.Sprintf("killed-%d", i))
			ckpt := filepath.Join(p.data, "checkpoints", strings.TrimPrefix(run.Name, "runs/")+"-0.ckpt")
			m.kill(t, p.roles["generator"], ckpt)
			k := keptIn(t, ckpt)
			if !m.fits(k) {
				t.Errorf("the checkpoint is %+v", k)
			}
			covered := (len(k.Pictures) + killedBatch - 1) / killedBatch * each
			if k.Batch != nil {
				covered += k.Batch.Done
			}
			t.Logf("the checkpoint covers %d of %d calls of the U-Net", covered, calls)

			p.start(whole, "generator", "127.0.0.1:0")
			end := wait(ctx, t, embedder, run)
			if end.State != runv1.RunState_RUN_STATE_SUCCEEDED || end.Attempts != 2 { // the kill counts
				t.Fatalf("%s ended as %v after %d attempts: %v", end.Name, end.State, end.Attempts, end.Failure)
			}
			if made, _ := p.unet(t); made != calls-covered {
				t.Errorf("the next process made %d calls of the U-Net, want %d", made, calls-covered)
			}
			if got := files(ctx, t, p.dial(t, "generator"), end.Result); !maps.Equal(got, want) {
				t.Error("the pictures are not those that nobody disturbed")
			}
			if _, err := os.Stat(ckpt); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the checkpoint is left: %v", err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// killedSteps make a shard last long enough for some checkpoints, killedBatch makes it three batches.
const (
	killedSteps = 100
	killedBatch = 4
)

// files are the sums of all pictures of a set, by file, of what is streamed and as the records say.
func files(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, set string) map[string]string {
	t.Helper()
	stream, err := generatorv1.NewGeneratorServiceClient(conn).StreamSet(ctx, &generatorv1.StreamSetRequest{Name: set})
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(r.Picture.Png)
		if sums[r.Picture.Record.File] = hex.EncodeToString(sum[:]); sums[r.Picture.Record.File] != r.Picture.Record.Sha256 {
			t.Errorf("%s is not what its record says", r.Picture.Record.File)
		}
	}
	if len(sums) != 10 {
		t.Errorf("%s has %d pictures, want 10", set, len(sums))
	}
	return sums
}

// unet reads how often the generator's process has called the U-Net, and for how many batches, from its metrics.
func (p *processes) unet(t *testing.T) (calls, batches int) {
	t.Helper()
	text, err := os.ReadFile(p.roles["generator"].out)
	if err != nil {
		t.Fatal(err)
	}
	var welcome struct{ Metrics string }
	line, _, _ := strings.Cut(string(text), "\n")
	if err := json.Unmarshal([]byte(line), &welcome); err != nil {
		t.Fatal(err)
	}
	r, err := http.Get("http://" + welcome.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	of := func(series string) int {
		_, rest, found := strings.Cut(string(body), "\n"+series+`{kind="render-set",stage="denoise"} `)
		if !found { // nothing was denoised
			return 0
		}
		value, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s of denoise is %q in the metrics", series, value)
		}
		return n
	}
	return of("dreamood_stage_items_total"), of("dreamood_stage_duration_seconds_count")
}

// until waits for a checkpoint that is so. Tracing slows a process down, and checkpoints with it: it begins afterwards.
func until(t *testing.T, path string, is func(kept) bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(keptIn(t, path)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no such checkpoint within two minutes; the last is %+v", keptIn(t, path))
		}
	}
}

// keptIn reads a checkpoint.
func keptIn(t *testing.T, path string) (k kept) {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return k
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const checksum = 32
	if _, err := f.Seek(checksum, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(f).Decode(&k); err != nil {
		t.Fatalf("the checkpoint %s: %v", path, err)
	}
	k.there = true
	return k
}
