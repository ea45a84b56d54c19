package diffusion

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// Which schedules are linear, and how far back they look.
func TestLinearSchedules(t *testing.T) {
	no, yes := false, true
	for _, c := range []struct {
		name   string
		config SchedulerConfig
		lags   int // 0: not linear
	}{
		{DDIM, SchedulerConfig{ClipSample: &no}, 1},
		{DDIM, SchedulerConfig{ClipSample: &no, PredictionType: "v_prediction"}, 1},
		{DDIM, SchedulerConfig{ClipSample: &yes}, 0},
		{Euler, SchedulerConfig{}, 1},
		{EulerKarras, SchedulerConfig{}, 1},
		{EulerAncestral, SchedulerConfig{}, 0},
		{PLMS, SchedulerConfig{}, 4},
		{PNDM, SchedulerConfig{}, 0}, // the Runge-Kutta start goes back twelve calls
		{DPM, SchedulerConfig{}, 1},
		{LCM, SchedulerConfig{}, 0},
	} {
		plan, err := NewScheduler(c.config, Schedule{Name: c.name, Steps: 12})
		if err != nil {
			t.Fatal(err)
		}
		l, ok := linearOf(plan)
		t.Logf("%s %v: linear %v, %d steps back", c.name, c.config.PredictionType, ok, l.lags)
		if ok != (c.lags > 0) {
			t.Errorf("%s: linear %v", c.name, ok)
		}
	}
}

// The loop graph gives the pictures of single steps, for every linear schedule,
// with guidance of its own for every item and without, on the tiny model, whose
// timestep is a scalar: within 1/255 but for one value in a thousand, since the
// graph adds in float32 what is else added in float64. Progress and previews
// come too.
func TestLoopGivesThePicturesOfSteps(t *testing.T) {
	_, items, noise := readTiny(t)
	steps := openTiny(t, tiny, Config{Noise: noise})
	loop := openTiny(t, tiny, Config{Noise: noise, Loop: true, Batch: len(items)})
	for _, name := range []string{DDIM, PLMS, Euler, EulerKarras, DPM, DPMKarras} {
		for _, guidance := range []float64{1, 6} {
			opts := Options{Steps: 9, Guidance: guidance, Scheduler: name, PreviewEvery: 4}
			told, previews, wanted := 0, []Preview{}, []Preview{}
			opts.Preview = func(v Preview) { wanted = append(wanted, v) }
			want, err := steps.Render(t.Context(), items, opts)
			if err != nil {
				t.Fatal(err)
			}
			opts.Preview = func(v Preview) { previews = append(previews, v) }
			opts.Progress = func(done, _ int) { told = done }
			got, err := loop.Render(t.Context(), items, opts)
			if err != nil {
				t.Fatal(err)
			}
			if share, worst := compareImages(got, want); share > 0.001 {
				t.Errorf("%s, guidance %v: %.3f %% of the values differ by more than 1, at most %d", name, guidance, 100*share, worst)
			}
			if len(previews) != len(wanted) || len(previews) == 0 || told < 9 {
				t.Fatalf("%s: %d previews, want %d; told of %d calls", name, len(previews), len(wanted), told)
			}
			for i := range previews {
				if share, worst := compareImages(previews[i].Images, wanted[i].Images); share > 0.001 || previews[i].Done != wanted[i].Done {
					t.Errorf("%s: preview %d differs in %.3f %%, by at most %d", name, i, 100*share, worst)
				}
			}
		}
	}
	if len(loop.loops.sessions) != 2 {
		t.Errorf("%d loop graphs were made; want one with guidance and one without", len(loop.loops.sessions))
	}
}

func compareImages(got, want []Image) (share float64, worst int) {
	var all []byte
	for _, m := range want {
		all = append(all, m.Pix...)
	}
	return compare(got, all)
}

// What a loop cannot do is done in steps, to the byte: noise in every step,
// clipping, guidance for some items only, a check-point to go on from.
func TestWhatIsNoLoopIsDoneInSteps(t *testing.T) {
	_, items, noise := readTiny(t)
	steps := openTiny(t, tiny, Config{Noise: noise})
	loop := openTiny(t, tiny, Config{Noise: noise, Loop: true, Batch: len(items)})
	mixed := append([]Item(nil), items...)
	mixed[0].Guidance = 1
	var kept *Checkpoint
	opts := Options{Steps: 6, Guidance: 5, Scheduler: DDIM, Save: func(c Checkpoint) { kept = &c }}
	if _, err := steps.Render(t.Context(), items[:1], opts); err != nil {
		t.Fatal(err)
	}
	opts.Save = nil
	from := opts
	from.From = kept
	ancestral := opts
	ancestral.Scheduler = EulerAncestral
	for name, c := range map[string]struct {
		items []Item
		opts  Options
	}{"mixed guidance": {mixed, opts}, "a check-point": {items[:1], from}, "not a full batch": {items[1:], opts}} {
		want, err := steps.Render(t.Context(), c.items, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := loop.Render(t.Context(), c.items, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if !bytes.Equal(got[i].Pix, want[i].Pix) {
				t.Errorf("%s: picture %d is another one", name, i)
			}
		}
	}
	plan, err := loop.Plan(ancestral)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := loop.inLoop(items, nil, plan, ancestral); ok {
		t.Error("a schedule with noise is run in a loop")
	}
}

// The reference model, whose exporter wrote other shapes, gives its pictures in a
// loop too; a cancel ends the run inside of the loop, long before its end.
func TestLoopOfTheReferenceModel(t *testing.T) {
	p := openTiny(t, "../../models/reference", Config{Loop: true, Batch: 2, ONNX: onnx.Config{Threads: 1}})
	items := []Item{{Prompt: "a photo of the ship"}, {Prompt: "a photo of the cat", Key: philox.Key{Index: 1}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts := Options{Steps: 8, Guidance: 3, Scheduler: DDIM}
	got, err := p.Render(ctx, items, opts)
	if err != nil {
		t.Fatal(err)
	}
	p.looped = false
	if want, err := p.Render(ctx, items, opts); err != nil {
		t.Fatal(err)
	} else if share, worst := compareImages(got, want); share > 0.001 {
		t.Errorf("the reference model: %.3f %% of the values differ by more than 1, at most %d", 100*share, worst)
	}
	p.looped, opts.Steps = true, 900
	var asked time.Time
	opts.Progress = func(done, _ int) {
		if done == loopSteps { // in the middle of the next run, if the timer is not late
			time.AfterFunc(20*time.Millisecond, func() { asked = time.Now(); cancel() })
		}
	}
	_, err = p.Render(ctx, items, opts)
	if took := time.Since(asked); !errors.Is(err, context.Canceled) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	} else {
		t.Logf("%s from cancel to return", took.Round(100*time.Microsecond))
	}
}

// The weights that PLMS is known by: 55, −59, 37 and −9 parts of 24.
func TestWeightsOfPLMS(t *testing.T) {
	plan, err := NewScheduler(SchedulerConfig{}, Schedule{Name: PLMS, Steps: 12})
	if err != nil {
		t.Fatal(err)
	}
	l, ok := linearOf(plan)
	if !ok {
		t.Fatal("PLMS is not linear")
	}
	w := l.weights[8]
	for lag, part := range []float64{55, -59, 37, -9} {
		if got, want := float64(w[2*lag+1]/w[1]), part/55; math.Abs(got-want) > 1e-5 {
			t.Errorf("output of %d steps back: %v of the last one's weight; want %v", lag, got, want)
		}
	}
}
