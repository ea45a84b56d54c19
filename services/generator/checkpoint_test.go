package generator

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// wordJob renders words with a tiny model, two pictures at a time.
func wordJob(t *testing.T) job {
	t.Helper()
	if err := onnx.Open(""); err != nil {
		t.Fatal(err)
	}
	model, err := diffusion.Open("../../internal/diffusion/testdata/tiny", diffusion.Config{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	decoding := Decoding{Model: "tiny", Steps: 4, Guidance: 5, Prompt: defaultPrompt, Seed: 3}
	space := &embedderv1.Space{Name: "spaces/s", Classes: []*embedderv1.SpaceClass{{Name: "dog", Word: "dog"}}}
	return job{service: &Service{}, space: space, model: model, decoding: decoding, source: generatorv1.Source_SOURCE_WORDS}
}

// rendered is the tar file of five pictures.
func rendered(ctx context.Context, t *testing.T, j job, kept *progress, report func(float64)) ([]byte, error) {
	t.Helper()
	var file bytes.Buffer
	s := newShard(&file)
	err := j.each(ctx, []segment{{label: 0, count: 5}}, kept, report, s.add)
	return file.Bytes(), errors.Join(err, s.close())
}

// A shard that was given back or whose process was killed goes on where it was, with the same bytes; a checkpoint that
// is damaged or of other pictures is left out of account.
func TestShardGoesOnFromItsCheckpoint(t *testing.T) {
	j, folder := wordJob(t), t.TempDir()
	s := &Service{cfg: Config{Checkpoints: folder}, deps: Deps{Log: zap.NewNop()}}
	open := func() *progress { return s.progressOf(t.Context(), runs.Run{Origin: "run"}, 4) }
	calls := 0
	count := func(float64) { calls++ }
	want, err := rendered(t.Context(), t, j, nil, count)
	if err != nil {
		t.Fatal(err)
	}
	whole := calls // of three batches

	path := filepath.Join(folder, "run-4.ckpt")
	give := func(after int) {
		os.Remove(path)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		calls = 0
		if _, err := rendered(ctx, t, j, open(), func(float64) {
			if calls++; calls == after {
				cancel()
			}
		}); !errors.Is(err, context.Canceled) {
			t.Fatalf("a shard that is given back ended with %v", err)
		}
	}
	for _, after := range []int{1, whole/3 - 1, whole/3 + 2, whole - 2} {
		give(after)
		kept, err := readKept(path)
		if err != nil || len(kept.Pictures) != after/(whole/3)*2 {
			t.Fatalf("after %d calls: %d pictures are kept, %v", after, len(kept.Pictures), err)
		}
		told, last := 0, 0.0
		got, err := rendered(t.Context(), t, j, open(), func(done float64) { told++; last = done })
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("given back after %d of %d calls: other bytes, %v", after, whole, err)
		}
		if last != 5 || told > whole-after/(whole/3)*(whole/3) {
			t.Errorf("given back after %d of %d calls: %d more, to %v pictures", after, whole, told, last)
		}
	}

	give(whole / 2)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := rendered(t.Context(), t, j, open(), nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with a damaged checkpoint: other bytes, %v", err)
	}
	j.decoding.Seed++
	give(whole / 2)
	j.decoding.Seed--
	kept := open()
	if got, err := rendered(t.Context(), t, j, kept, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with a checkpoint of other pictures: other bytes, %v", err)
	}
	kept.save(true)
	kept.remove()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the checkpoint is not removed: %v", err)
	}
}

// A cancelled run keeps nothing, and what is there of its shards goes; other runs' stays.
func TestCheckpointsAreRemoved(t *testing.T) {
	folder := t.TempDir()
	s := &Service{cfg: Config{Checkpoints: folder}, deps: Deps{Log: zap.NewNop()}}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(runs.ErrEnded)
	s.progressOf(t.Context(), runs.Run{Origin: "a"}, 0).interrupted(ctx)
	for _, origin := range []string{"a", "b"} {
		s.progressOf(t.Context(), runs.Run{Origin: origin}, 1).save(true)
	}
	if names, _ := filepath.Glob(filepath.Join(folder, "*")); len(names) != 2 {
		t.Fatalf("files %v; want those of two shards", names)
	}
	s.abandon(t.Context(), runs.Run{Origin: "b", State: runs.Failed})
	s.abandon(t.Context(), runs.Run{Origin: "a", State: runs.Cancelled})
	if names, _ := filepath.Glob(filepath.Join(folder, "*")); len(names) != 1 || filepath.Base(names[0]) != "b-1.ckpt" {
		t.Errorf("files %v; want that of b", names)
	}
}

// The time between two saves is a hundred times that of the last one, at least a second.
func TestCheckpointsCostAHundredth(t *testing.T) {
	p := &progress{path: filepath.Join(t.TempDir(), "run-0.ckpt"), note: func(string, error) {}, saved: time.Now().Add(-time.Minute), took: time.Second}
	written := func() bool {
		_, err := os.Stat(p.path)
		return err == nil
	}
	if p.save(false); written() {
		t.Error("it is written after a minute, where the last one took a second")
	}
	p.took = 10 * time.Millisecond
	if p.save(false); !written() {
		t.Error("it is not written after a minute, where the last one took a hundredth of a second")
	}
}
