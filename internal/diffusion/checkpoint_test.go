package diffusion

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dreamood/dreamood/internal/philox"
)

// A rendering that goes on from any checkpoint gives the bytes of one that nobody
// disturbed, with every scheduler.
func TestGoesOnFromACheckpoint(t *testing.T) {
	p := openTiny(t, tiny, Config{})
	items := []Item{{Prompt: "a dog", Key: philox.Key{Seed: 3}}, {Prompt: "a photo of a dog", Key: philox.Key{Seed: 3, Index: 1}}}
	for _, scheduler := range Schedulers() {
		opts := Options{Steps: 6, Scheduler: scheduler}
		if scheduler == DDIM {
			opts.Eta = 0.5
		}
		var all []Checkpoint
		opts.Save = func(c Checkpoint) { all = append(all, c) }
		want, err := p.Render(t.Context(), items, opts)
		if err != nil {
			t.Fatal(err)
		}
		opts.Save = nil
		for i := range all {
			c := all[i]
			calls, total := 0, 0
			opts.From = &c
			opts.Progress = func(done, of int) { calls, total = calls+1, of }
			got, err := p.Render(t.Context(), items, opts)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Fatalf("%s, after %d calls: %v, %s", scheduler, c.Done, err, diff)
			}
			if c.Done != i+1 || calls != total || len(all) != total-1 {
				t.Fatalf("%s: checkpoint %d of %d after %d calls; %d of %d are told", scheduler, i, len(all), c.Done, calls, total)
			}
		}
	}
}

func TestCheckpointOfAnotherRendering(t *testing.T) {
	p := openTiny(t, tiny, Config{})
	items := []Item{{Prompt: "a dog"}}
	var c Checkpoint
	if _, err := p.Render(t.Context(), items, Options{Steps: 6, Scheduler: PLMS, Save: func(x Checkpoint) { c = x }}); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]Options{
		"fewer steps":  {Steps: 3, Scheduler: PLMS, From: &c},
		"more latents": {Steps: 6, Scheduler: PLMS, From: &Checkpoint{Done: 1, Latents: make([]float32, 3)}},
		"no history":   {Steps: 6, Scheduler: PLMS, From: &Checkpoint{Done: c.Done, Latents: c.Latents}},
	} {
		if _, err := p.Render(t.Context(), items, opts); err == nil || !strings.Contains(err.Error(), "is of another rendering") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
