package train

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// small is a training that takes milliseconds a step.
func small() Spec {
	return Spec{Network: ResNet9(4), Head: Classifier{N: 3, Scale: 0.125}, Height: 16, Width: 16, Batch: 24, Seed: 7}
}

func step(t *testing.T, tr *Trainer, b Batch, rate float32) Losses {
	t.Helper()
	l, err := tr.Step(context.Background(), b, rate)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// toyBatch is three classes told apart by the channel that is bright; outliers
// are bright in all.
func toyBatch(s Spec, seed uint64) Batch {
	r := rand.New(rand.NewPCG(seed, 1))
	b, area := Batch{Labels: make([]int, s.Batch)}, s.Height*s.Width
	for i := range s.Batch + s.Outliers {
		y := r.IntN(3)
		if i < s.Batch {
			b.Labels[i] = y
		}
		for c := range 3 {
			for range area {
				v := 0.3 * r.Float32()
				if c == y || i >= s.Batch {
					v += 0.6
				}
				b.Images = append(b.Images, v)
			}
		}
	}
	return b
}

func TestTrainingLearns(t *testing.T) {
	spec := small()
	spec.Outliers, spec.Head = 8, Classifier{N: 3, Scale: 0.125, Outliers: Energy{Beta: 1}}
	tr := newTrainer(t, spec)
	first := step(t, tr, toyBatch(tr.spec, 0), 0)
	const steps = 60
	for i := range steps {
		step(t, tr, toyBatch(tr.spec, uint64(i)), OneCycleRate(i, steps, Cycle{Peak: 0.2}))
	}
	last := step(t, tr, toyBatch(tr.spec, 999), 0)
	if last.CE > first.CE/5 || last.OOD > first.OOD/2 || last.Correct < last.Rows {
		t.Errorf("losses %+v before, %+v after %d steps", first, last, steps)
	}
	fresh := toyBatch(tr.spec, 1000)
	out := infer(t, tr, fresh.Images, tr.spec.Batch+tr.spec.Outliers)
	for i, y := range fresh.Labels {
		if got := argmax(out["logits"][3*i : 3*i+3]); got != y {
			t.Errorf("picture %d: the exported model says class %d, want %d", i, got, y)
		}
	}
	if id, outliers := mean(out["ood_score"][:24]), mean(out["ood_score"][24:]); id <= outliers {
		t.Errorf("mean ood_score %g of ID pictures, %g of outliers", id, outliers)
	}
}

func mean(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x)
	}
	return sum / float64(len(v))
}

func TestSeedDecidesTheRun(t *testing.T) {
	run := func(seed uint64) []float32 {
		spec := small()
		spec.Seed = seed
		tr := newTrainer(t, spec)
		step(t, tr, toyBatch(tr.spec, 0), 0.1)
		return tr.State()["l.5.b.c.weight"].Data
	}
	if a, b := run(1), run(1); !slices.Equal(a, b) {
		t.Error("the same seed gives another run")
	}
	if a, b := run(1), run(2); slices.Equal(a, b) {
		t.Error("another seed gives the same run")
	}
}

func TestCheckpointContinuesBitForBit(t *testing.T) {
	a, b := newTrainer(t, small()), newTrainer(t, small())
	for i := range 3 {
		step(t, a, toyBatch(a.spec, uint64(i)), 0.1)
	}
	var file bytes.Buffer
	if err := a.SaveState(&file); err != nil {
		t.Fatal(err)
	}
	saved := slices.Clone(file.Bytes())
	if err := b.LoadState(&file); err != nil {
		t.Fatal(err)
	}
	if b.Steps() != 3 {
		t.Errorf("%d steps after loading, want 3", b.Steps())
	}
	for i := range 2 {
		batch := toyBatch(a.spec, uint64(10+i))
		if x, y := step(t, a, batch, 0.05), step(t, b, batch, 0.05); x != y {
			t.Errorf("losses differ after loading: %+v and %+v", x, y)
		}
	}
	want := a.State()
	for name, v := range b.State() {
		if !slices.Equal(v.Data, want[name].Data) {
			t.Errorf("%s differs after loading", name)
		}
	}
	for n := range 4 { // a file that is cut anywhere changes nothing
		if err := b.LoadState(bytes.NewReader(saved[:n*len(saved)/4])); err == nil {
			t.Errorf("a checkpoint cut at %d of 4 was loaded", n)
		}
	}
	if b.Steps() != 5 {
		t.Errorf("%d steps after refused files, want 5", b.Steps())
	}
}

func TestLoadStateNamesEveryProblem(t *testing.T) {
	var file bytes.Buffer
	if err := newTrainer(t, small()).SaveState(&file); err != nil {
		t.Fatal(err)
	}
	spec := small()
	spec.Network = ResNet9(8)
	spec.Optimizer = SGD{}
	err := newTrainer(t, spec).LoadState(&file)
	for _, want := range []string{"resnet9/4 into resnet9/8", "l.0.c.weight has shape [4 3 3 3], want [8 3 3 3]", "fc.weight"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}

func TestLoadWeightsStartsAnotherTraining(t *testing.T) {
	from := newTrainer(t, small())
	step(t, from, toyBatch(from.spec, 0), 0.1)
	var file bytes.Buffer
	if err := from.SaveState(&file); err != nil {
		t.Fatal(err)
	}
	spec := small()
	spec.Outliers, spec.Head = 8, Classifier{N: 3, Scale: 0.125, Outliers: Energy{Beta: 1}}
	to := newTrainer(t, spec)
	missing, err := to.LoadWeights(&file)
	if err != nil || !slices.Equal(missing, []string{"phi.weight", "phi.bias"}) {
		t.Errorf("missing %v, %v", missing, err)
	}
	a, b := from.State(), to.State()
	if !slices.Equal(a["fc.weight"].Data, b["fc.weight"].Data) || mean(b["momentum/fc.weight"].Data) != 0 || to.Steps() != 0 {
		t.Error("weights were not taken over, or velocities were")
	}
}

func TestWeightZeroRowsDoNotCount(t *testing.T) {
	spec := small()
	spec.LabelSmoothing = 0.1
	tr := newTrainer(t, spec)
	b := toyBatch(tr.spec, 0)
	b.Weights = make([]float32, spec.Batch)
	for i := range 10 {
		b.Weights[i] = 1
	}
	x := step(t, tr, b, 0)
	for i := 10; i < spec.Batch; i++ {
		b.Labels[i] = (b.Labels[i] + 1) % 3
	}
	if y := step(t, tr, b, 0); x.CE != y.CE || x.Rows != 10 {
		t.Errorf("%+v and %+v: labels of rows with weight 0 count", x, y)
	}
	soft := Batch{Images: b.Images, Weights: b.Weights, Targets: slices.Clone(tr.in[inTargets].Float32())}
	if y := step(t, tr, soft, 0); y.CE != x.CE {
		t.Errorf("soft targets give %g, labels %g", y.CE, x.CE)
	}
}

func TestDivergenceIsAnErrorAndKeepsTheState(t *testing.T) {
	tr := newTrainer(t, small())
	before := tr.State()
	b := toyBatch(tr.spec, 0)
	b.Images[5] = float32(math.NaN())
	_, err := tr.Step(context.Background(), b, 0.1)
	if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "training step 1 at learning rate 0.1") {
		t.Errorf("error %v", err)
	}
	for name, v := range tr.State() {
		if !slices.Equal(v.Data, before[name].Data) {
			t.Errorf("%s changed", name)
		}
	}
	tr.tensor("fc.weight")[0] = float32(math.Inf(1))
	if err := tr.SaveState(&bytes.Buffer{}); !errors.Is(err, ErrDiverged) {
		t.Errorf("a checkpoint with Inf: %v", err)
	}
}

func TestCancelDuringAStep(t *testing.T) {
	spec := small()
	spec.Network, spec.Batch, spec.Height, spec.Width = ResNet9(16), 64, 32, 32
	tr := newTrainer(t, spec)
	before := tr.State()
	batch := toyBatch(tr.spec, 0)
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(5*time.Millisecond, cancel)
	defer timer.Stop()
	_, err := tr.Step(ctx, batch, 0.1)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context canceled", err)
	}
	for name, v := range tr.State() {
		if !slices.Equal(v.Data, before[name].Data) {
			t.Errorf("%s changed", name)
		}
	}
	if tr.Steps() != 0 {
		t.Errorf("%d steps, want 0", tr.Steps())
	}
	step(t, tr, batch, 0.1)
}

func TestSpecReportsEveryProblem(t *testing.T) {
	_, err := New(Spec{Network: ResNet9(0), Head: Cosine{Temperature: -1}, Height: 30, Outliers: -1,
		LabelSmoothing: 1, Optimizer: SGD{Nesterov: true}, Std: [3]float32{-1, 1, 1}}, Config{})
	for _, want := range []string{"width", "anchors", "temperature", "30 by 32", "batch 0", "outliers -1", "label smoothing", "Nesterov", "std of channel 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	for _, head := range []Classifier{{N: 1}, {N: 3, Outliers: Energy{Beta: 1}}, {N: 3, Scale: -1}} {
		if err := head.validate(0); err == nil {
			t.Errorf("%+v without outliers was accepted", head)
		}
	}
}

func TestBatchReportsEveryProblem(t *testing.T) {
	tr := newTrainer(t, small())
	_, err := tr.Step(context.Background(), Batch{Images: make([]float32, 3), Labels: []int{0}, Weights: []float32{1}}, -1)
	for _, want := range []string{"3 picture values, want 18432", "1 labels, want 24", "1 weights", "learning rate -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	b := toyBatch(tr.spec, 0)
	b.Labels[3] = 3
	if _, err := tr.Step(context.Background(), b, 0.1); err == nil || !strings.Contains(err.Error(), "label 3 of row 3") {
		t.Errorf("error %v", err)
	}
	b.Labels, b.Targets = nil, make([]float32, 72)
	if _, err := tr.Step(context.Background(), b, 0.1); err == nil || !strings.Contains(err.Error(), "row 0 sum to 0") {
		t.Errorf("error %v", err)
	}
}

// TestSchedules compares learning rates with PyTorch's; 1e-6 relative is the
// rounding of both to float32.
func TestSchedules(t *testing.T) {
	recorded := load(t, "testdata/schedules.safetensors")
	for name, rate := range map[string]func(step int) float32{
		"cosine":      func(i int) float32 { return CosineRate(i, 20, 0.1, 1e-6) },
		"warm_cosine": Schedule{Kind: "cosine", Peak: 0.1, Warmup: 0.2}.at(20),
		"onecycle":    func(i int) float32 { return OneCycleRate(i, 20, Cycle{Peak: 0.4}) },
		"onecycle_linear": func(i int) float32 {
			return OneCycleRate(i, 20, Cycle{Peak: 0.4, Warmup: 0.2, Start: 10, Final: 100, Linear: true})
		},
	} {
		for i, want := range recorded[name].Data {
			if got := rate(i); math.Abs(float64(got-want)) > 1e-6*float64(want)+1e-9 {
				t.Errorf("%s at step %d: %g, want %g", name, i, got, want)
			}
		}
	}
}

func (s Schedule) at(total int) func(int) float32 {
	return func(step int) float32 { return s.Rate(step, total) }
}

func TestSchedulesOutOfBounds(t *testing.T) {
	for want, s := range map[string]Schedule{
		"known are onecycle": {Kind: "steps", Peak: 0.1},
		"peak learning rate": {Kind: "cosine"},
		"warm-up: 0":         {Kind: "onecycle", Peak: 0.1},
		"warm-up: 1":         {Kind: "constant", Peak: 0.1, Warmup: 1},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", s, err, want)
		}
	}
}

// TestAveragesContinueBitForBit: moments, step count and moving averages are in the checkpoint.
func TestAveragesContinueBitForBit(t *testing.T) {
	spec := small()
	spec.Optimizer, spec.EMA = AdamW{WeightDecay: 0.01, ClipNorm: 1}, 0.9
	a, b := newTrainer(t, spec), newTrainer(t, spec)
	for i := range 3 {
		step(t, a, toyBatch(a.spec, uint64(i)), 0.01)
	}
	var file bytes.Buffer
	if err := a.SaveState(&file); err != nil {
		t.Fatal(err)
	}
	if err := b.LoadState(&file); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		batch := toyBatch(a.spec, uint64(10+i))
		if x, y := step(t, a, batch, 0.01), step(t, b, batch, 0.01); x != y {
			t.Errorf("losses differ after loading: %+v and %+v", x, y)
		}
	}
	other := b.State()
	for name, v := range a.State() {
		if !slices.Equal(v.Data, other[name].Data) {
			t.Errorf("%s differs", name)
		}
	}
}
