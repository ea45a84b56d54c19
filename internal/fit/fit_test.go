package fit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/train"
)

// epochs of the tests' trainings: 20 batches each make 420 steps, so that every point of the curve is a mean of two.
const epochs = 21

// shades are 40 pictures of 8 pixels in two classes, bright and dark; outliers are grey noise.
func shades(t *testing.T, n int, seed uint64) *dataset.Dataset {
	t.Helper()
	pixels, labels := make([]uint8, n*8*8*3), make([]int32, n)
	noise := make([]uint32, len(pixels))
	philox.Uint32s(noise, philox.Key{Seed: seed, Purpose: "fit.test"})
	for i := range pixels {
		label := i / (8 * 8 * 3) % 2
		labels[i/(8*8*3)] = int32(label)
		pixels[i] = uint8(100*label) + uint8(noise[i]%100)
	}
	d, err := dataset.FromPixels("shades", []string{"dark", "bright"}, 8, pixels, labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newTrainer(t *testing.T, width, outliers int) *train.Trainer {
	t.Helper()
	head := train.Classifier{N: 2, Scale: 0.125}
	if outliers > 0 {
		head.Outliers = train.Energy{Beta: 1}
	}
	tr, err := train.New(train.Spec{Network: train.ResNet9(width), Head: head, Height: 8, Width: 8, Batch: 2, Outliers: outliers, Seed: 3},
		train.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func config(path string) Config {
	return Config{Epochs: epochs, Schedule: train.Schedule{Peak: 0.02}, Seed: 5, Checkpoint: path, Augment: dataset.Standard()}
}

// killedAt trains until the given step and then loses its context, as a process that is stopped.
func killedAt(t *testing.T, step int64, path string, id, outliers *dataset.Dataset) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := config(path)
	cfg.Every = time.Nanosecond
	cfg.Report = func(p Progress) {
		done := p.Done
		if done == step {
			cancel()
		}
	}
	if _, err := Run(ctx, newTrainer(t, 2, 1), id, outliers, cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("killed at step %d: %v", step, err)
	}
}

func TestKilledAndResumedIsAsNeverKilled(t *testing.T) {
	id, outliers := shades(t, 40, 1), shades(t, 7, 2)
	undisturbed := newTrainer(t, 2, 1)
	var steps int64
	cfg := config("")
	cfg.Report = func(p Progress) {
		done, total, last := p.Done, p.Total, p.Last
		if steps++; done != steps || total != 420 || last.Step != done || !(last.Total > 0) {
			t.Fatalf("report %d of %d, %+v, after %d others", done, total, last, steps-1)
		}
	}
	want, err := Run(t.Context(), undisturbed, id, outliers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(want); n != 210 || want[n-1].Step != 420 || !(want[n-1].CE < want[0].CE/2) {
		t.Fatalf("the curve has %d points, from %+v to %+v", n, want[0], want[n-1])
	}

	path := filepath.Join(t.TempDir(), "deep", "run.ckpt")
	for _, step := range []int64{1, 2, 33, 34, 301} { // within a mean of the curve and at its end
		killedAt(t, step, path, id, outliers)
	}
	resumed := newTrainer(t, 2, 1)
	first := int64(0)
	cfg = config(path)
	cfg.Report = func(p Progress) {
		done := p.Done
		first = max(first, 421-done)
	}
	got, err := Run(t.Context(), resumed, id, outliers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if first > 420-300 {
		t.Errorf("after a kill at step 301 there were still %d steps to do", first)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the loss curve differs:\n%s", diff)
	}
	if diff := cmp.Diff(undisturbed.State(), resumed.State()); diff != "" {
		t.Errorf("the state differs:\n%s", diff)
	}

	// The task may be delivered once more before its result is committed: there is nothing left to do then.
	cfg.Report = func(p Progress) {
		done := p.Done
		t.Errorf("step %d was done again", done)
	}
	again := newTrainer(t, 2, 1)
	if got, err = Run(t.Context(), again, id, outliers, cfg); err != nil || !slices.Equal(got, want) || again.Steps() != 420 {
		t.Errorf("run again from its end: %d points at step %d, %v", len(got), again.Steps(), err)
	}
}

func TestDamagedCheckpointsAreNamed(t *testing.T) {
	id, dir := shades(t, 40, 1), t.TempDir()
	good := filepath.Join(dir, "good")
	outliers := shades(t, 7, 2)
	killedAt(t, 20, good, id, outliers)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.IndexByte(string(whole), '\n')
	for name, content := range map[string]string{
		"empty": "", "cut in the curve": string(whole[:line/2]), "cut after the curve": string(whole[:line+1]),
		"cut in the state": string(whole[:len(whole)-5]), "no curve": "hello\n" + string(whole[line+1:]), "no state": "[]\nhello",
	} {
		path := filepath.Join(dir, "damaged")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Run(t.Context(), newTrainer(t, 2, 1), id, outliers, config(path))
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "delete the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Checkpoints of another network, and of a training that is longer.
	if _, err := Run(t.Context(), newTrainer(t, 4, 1), id, outliers, config(good)); err == nil || !strings.Contains(err.Error(), "shape") {
		t.Errorf("the checkpoint of another network: %v", err)
	}
	short := config(good)
	killedAt(t, 30, good, id, outliers)
	short.Epochs = 1
	if _, err := Run(t.Context(), newTrainer(t, 2, 1), id, outliers, short); err == nil || !strings.Contains(err.Error(), "of 20") {
		t.Errorf("the checkpoint of a longer training: %v", err)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	_, err := Run(t.Context(), newTrainer(t, 2, 0), shades(t, 40, 1), nil, Config{})
	if err == nil || !strings.Contains(err.Error(), "epochs") || !strings.Contains(err.Error(), "learning rate") {
		t.Errorf("the zero configuration: %v", err)
	}
}

func TestCheckpointsThatCannotBeWritten(t *testing.T) {
	id, dir := shades(t, 40, 1), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file", "run.ckpt")
	cfg := config(path)
	cfg.Epochs = 1
	if _, err := Run(t.Context(), newTrainer(t, 2, 0), id, nil, cfg); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a checkpoint below a file: %v", err)
	}
}

// TestRemoveLeavesNothing removes a checkpoint, what a process that died while writing left of it, and nothing else.
func TestRemoveLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.ckpt", "a.ckpt.tmp-123", "a.ckpt.tmp-9", "aa.ckpt", "a.ckpt2"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time it is gone
		if err := Remove(filepath.Join(dir, "a.ckpt")); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if fmt.Sprint(left) != "[a.ckpt2 aa.ckpt]" || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Remove(filepath.Join(dir, "none", "a.ckpt")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := Remove(""); err != nil {
		t.Errorf("a task without a checkpoint: %v", err)
	}
}

// TestInliersAreRows: they stand behind the ID pictures, with their labels and their weight.
func TestInliersAreRows(t *testing.T) {
	second := shades(t, 4, 2) // labels 0 1 0 1
	got := Config{Inliers: 2, InlierWeight: 0.5}.batch(&dataset.Batch{
		Images: []float32{1, 2}, Labels: []int32{1}, Outliers: []float32{3, 4}, Outlier: []int{3, 0},
	}, second)
	want := train.Batch{Images: []float32{1, 2, 3, 4}, Labels: []int{1, 1, 0}, Weights: []float32{1, 0.5, 0.5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWaitingIsAShare(t *testing.T) {
	cfg, told := config(""), 0
	cfg.Epochs = 2
	cfg.Waiting = func(share float64) {
		if told++; !(share >= 0 && share <= 1) {
			t.Errorf("waited for %g of the time", share)
		}
	}
	if _, err := Run(t.Context(), newTrainer(t, 2, 0), shades(t, 40, 1), nil, cfg); err != nil || told != 40 {
		t.Errorf("told %d times of 40 steps, %v", told, err)
	}
}

func TestProgressIsSaid(t *testing.T) {
	p := Progress{Last: Point{Total: 9}}
	if got := p.String(); got != "loss 9.000, accuracy 0.0 %" {
		t.Errorf("before the first point: %q", got)
	}
	for _, v := range []float64{4, 3, 2, 1, 0.5} {
		p.Curve = append(p.Curve, Point{Total: v, Accuracy: 0.57})
	}
	p.PerSecond = 350.4
	if got, want := p.String(), "loss 0.500 █▆▄▂▁, accuracy 57.0 %, 350 images/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Sparkline(p.Curve[:1], 16); got != "▁" {
		t.Errorf("a single point: %q", got)
	}
}
