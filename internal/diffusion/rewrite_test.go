package diffusion

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// modelsOfTests are the models that the rewrites must take: the tiny one, whose
// timestep is a whole number, the reference model, and the one of the bench
// where it was made.
func modelsOfTests(t *testing.T) map[string]rewrites {
	want := map[string]rewrites{
		tiny:                     {timestep: "timestep", widened: true, mixed: true, fused: true},
		"../../models/reference": {timestep: "timestep", mixed: true, fused: true},
	}
	bench := "../../.cache/bench-generator/sd18m/onnx"
	if _, err := os.Stat(filepath.Join(bench, "model_index.json")); err == nil {
		want[bench] = rewrites{timestep: "timestep", mixed: true, fused: true}
	}
	return want
}

// The rewritten graphs compute what the untouched ones do, with a timestep of
// its own for each row, within the rounding of sums in another order.
func TestRewritesChangeNothing(t *testing.T) {
	for dir, want := range modelsOfTests(t) {
		text, err := OpenTextEncoder(dir, onnx.Config{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		length, width := text.tokenizer.length, text.width
		text.Close()
		var graphs [2]*unet
		for i := range graphs {
			graphs[i], err = openUNet(dir, Config{ONNX: onnx.Config{Threads: 1}, Untouched: i == 0}, length, width)
			if err != nil {
				t.Fatal(err)
			}
			defer graphs[i].close()
		}
		plain, changed := graphs[0], graphs[1]
		if changed.rewrites != want || changed.refused != nil {
			t.Errorf("%s: rewritten by %+v (%v), want %+v", dir, changed.rewrites, changed.refused, want)
		}
		const rows = 3
		in, err := plain.newTensors(rows)
		if err != nil {
			t.Fatal(err)
		}
		defer in.close()
		philox.Normals(in.sample.values, philox.Key{Seed: 3, Purpose: "test"})
		philox.Normals(in.hidden.values, philox.Key{Seed: 4, Purpose: "test"})
		times := []float64{1, 381, 999}
		got, err := changed.once(in, times)
		if err != nil {
			t.Fatal(err)
		}
		n := len(got) / rows
		for i, at := range times {
			all, err := plain.once(in, []float64{at, at, at})
			if err != nil {
				t.Fatal(err)
			}
			if d := farthest(got[i*n:(i+1)*n], all[i*n:(i+1)*n]); d > 2e-5 {
				t.Errorf("%s, timestep %v: outputs differ by %.2g", dir, at, d)
			}
		}
	}
}

// A row has the same bytes in every batch: alone, with others, at whatever
// timesteps those are, on one thread or two, untouched or rewritten.
func TestRowsDoNotSeeEachOther(t *testing.T) {
	dir := "../../models/reference"
	for _, untouched := range []bool{false, true} {
		var alone [][]float32
		for _, threads := range []int{1, 2} {
			u, err := openUNet(dir, Config{ONNX: onnx.Config{Threads: threads}, Untouched: untouched}, 16, 256)
			if err != nil {
				t.Fatal(err)
			}
			defer u.close()
			const rows = 9
			whole, err := u.newTensors(rows)
			if err != nil {
				t.Fatal(err)
			}
			defer whole.close()
			philox.Normals(whole.sample.values, philox.Key{Seed: 5, Purpose: "test"})
			philox.Normals(whole.hidden.values, philox.Key{Seed: 6, Purpose: "test"})
			latent, text := len(whole.sample.values)/rows, len(whole.hidden.values)/rows
			times := make([]float64, rows)
			for i := range times {
				times[i] = 500
				if u.rewrites.mixed {
					times[i] = float64(37 * (i + 1))
				}
			}
			for _, size := range []int{1, 3, 9} {
				part, err := u.newTensors(size)
				if err != nil {
					t.Fatal(err)
				}
				for from := 0; from < rows; from += size {
					copy(part.sample.values, whole.sample.values[from*latent:])
					copy(part.hidden.values, whole.hidden.values[from*text:])
					out, err := u.once(part, times[from:from+size])
					if err != nil {
						t.Fatal(err)
					}
					for i := range size {
						row := out[i*latent : (i+1)*latent]
						if threads == 1 && size == 1 {
							alone = append(alone, row)
						} else if !slices.Equal(row, alone[from+i]) {
							t.Errorf("untouched %v, %d threads: row %d differs in a batch of %d", untouched, threads, from+i, size)
						}
					}
				}
				part.close()
			}
		}
	}
}

// Requests that come together share runs and give the bytes that each gives
// alone: of other sizes, prompts, schedulers, steps and guidance.
func TestRequestsShareRuns(t *testing.T) {
	_, items, noise := readTiny(t)
	requests := []struct {
		items []Item
		opts  Options
	}{
		{items, Options{Steps: 6, Guidance: 3}},
		{items[:1], Options{Steps: 9, Guidance: 7.5, Scheduler: DDIM}},
		{items[1:], Options{Steps: 5, Guidance: 1}},
		{items[:2], Options{Steps: 8, Guidance: 5, Scheduler: PLMS}},
	}
	var want [][]Image
	one := openTiny(t, tiny, Config{Noise: noise, Batch: 1})
	for _, r := range requests {
		images, err := one.Render(t.Context(), r.items, r.opts)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, images)
	}
	for _, lanes := range []int{1, 2} {
		p := openTiny(t, tiny, Config{Noise: noise, Batch: 4, Lanes: lanes})
		shared := 0
		run := p.unet.batcher.run
		var mu sync.Mutex
		p.unet.batcher.run = countShared(run, &mu, &shared)
		var all sync.WaitGroup
		for i, r := range requests {
			all.Go(func() {
				images, err := p.Render(t.Context(), r.items, r.opts)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range images {
					if !slices.Equal(images[k].Pix, want[i][k].Pix) {
						t.Errorf("%d lanes: picture %d of request %d has other bytes than alone", lanes, k, i)
					}
				}
			})
		}
		all.Wait()
		if lanes == 1 && shared == 0 {
			t.Error("no run was shared")
		}
	}
}
