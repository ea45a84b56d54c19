package method

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
	"github.com/dreamood/dreamood/internal/train/safetensors"
)

// recorded are features of a real detector on real pictures, and what others say of them: tools/vectors/scores.py.
type recorded struct {
	Training
	test   matrix.Matrix // 60 ID, then 60 OOD pictures
	numpy  map[string][]float64
	pytood map[string][]float64
}

func load(t *testing.T) recorded {
	t.Helper()
	raw, err := os.Open("testdata/features.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	f, err := safetensors.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	table := func(name string) matrix.Matrix {
		x := f.Tensors[name]
		return matrix.Matrix{Rows: x.Shape[0], Cols: x.Shape[1], Data: x.Data}
	}
	text, err := os.ReadFile("testdata/scores.json")
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Labels     []int                `json:"labels"`
		NumPy      map[string][]float64 `json:"numpy"`
		PytorchOOD map[string][]float64 `json:"pytorch_ood"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	return recorded{
		Training: Training{Features: table("train"), Labels: said.Labels, Weight: table("weight"), Bias: f.Tensors["bias"].Data},
		test:     table("test"), numpy: said.NumPy, pytood: said.PytorchOOD,
	}
}

// classifier is a model that takes features and has what Extend wants, with a trained head where slope is not 0.
func classifier(t *testing.T, r Training, slope float32) []byte {
	t.Helper()
	c, d := int64(r.Weight.Rows), int64(r.Weight.Cols)
	g := &onnxpb.GraphProto{
		Name: "classifier", Input: []*onnxpb.ValueInfoProto{onnxpb.Value("z", onnxpb.TensorProto_FLOAT, "N", d)},
		Initializer: []*onnxpb.TensorProto{onnxpb.Float32s("fc.weight", r.Weight.Data, c, d), onnxpb.Float32s("fc.bias", r.Bias, c)},
		Node: []*onnxpb.NodeProto{
			onnxpb.Node("Gemm", []string{"z", "fc.weight", "fc.bias"}, []string{"f"}, onnxpb.AttrInt("transB", 1)),
			onnxpb.Node("Identity", []string{"z"}, []string{"features"}), onnxpb.Node("Identity", []string{"f"}, []string{"logits"}),
		},
		Output: []*onnxpb.ValueInfoProto{onnxpb.Value("features", onnxpb.TensorProto_FLOAT, "N", d), onnxpb.Value("logits", onnxpb.TensorProto_FLOAT, "N", c)},
	}
	if slope != 0 {
		g.Initializer = append(g.Initializer, onnxpb.Float32s("slope", []float32{slope}, 1), onnxpb.Int64s("last", []int64{1}, 1))
		g.Node = append(g.Node, onnxpb.Node("ReduceLogSumExp", []string{"f", "last"}, []string{"e"}, onnxpb.AttrInt("keepdims", 0)),
			onnxpb.Node("Mul", []string{"e", "slope"}, []string{"ood_score"}))
		g.Output = append(g.Output, onnxpb.Value("ood_score", onnxpb.TensorProto_FLOAT, "N"))
	}
	model, err := onnxpb.Marshal(onnxpb.Model(g, 18))
	if err != nil {
		t.Fatal(err)
	}
	return model
}

// scored runs a model on features.
func scored(t *testing.T, model []byte, features matrix.Matrix, outputs ...string) map[string][]float32 {
	t.Helper()
	s, err := onnx.NewSession(model, onnx.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := onnx.NewFloat32(features.Data, int64(features.Rows), int64(features.Cols))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := s.Run(context.Background(), map[string]*onnx.Tensor{"z": in}, outputs...)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]float32{}
	for name, x := range out {
		values[name] = slices.Clone(x.Float32())
		x.Close()
	}
	return values
}

func extended(t *testing.T, model []byte, r Training, o Options) Result {
	t.Helper()
	out, err := Extend(model, r.Features, r.Labels, o, 1)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestScoresAgainstOthers compares all scores with NumPy in float64 and with pytorch-ood. The tolerance is relative to the
// largest magnitude of a score: float32 sums of some hundred terms in the model. pytorch-ood gets ten times as much for its own float32 and its ridge of 1e-6 in the
// Gaussians, and ViM 1e-4, because there it finds the eigenvectors in float32, too.
func TestScoresAgainstOthers(t *testing.T) {
	r := load(t)
	out := extended(t, classifier(t, r.Training, 0), r.Training, Options{GuideRows: 600})
	if want := slices.DeleteFunc(Names(), func(n string) bool { return n == Head }); !slices.Equal(out.Scores, want) {
		t.Fatalf("fitted are %q, want %q; %v", out.Scores, want, out.Unfit)
	}
	got := scored(t, out.Model, r.test, out.Scores...)
	for _, name := range out.Scores {
		numpy, peer := r.numpy[name], r.pytood[name]
		if len(numpy) != 120 || len(peer) != 120 || len(got[name]) != 120 {
			t.Fatalf("%s: %d scores, %d and %d recorded", name, len(got[name]), len(numpy), len(peer))
		}
		var size, worst, worstPeer float64
		for i, v := range got[name] {
			size = max(size, math.Abs(numpy[i]))
			worst = max(worst, math.Abs(float64(v)-numpy[i]))
			worstPeer = max(worstPeer, math.Abs(float64(v)-peer[i]))
		}
		peerTolerance := 3e-5 * max(size, 1)
		if name == "vim" {
			peerTolerance = 1e-4
		}
		t.Logf("%-9s max |difference| from NumPy %.1e, from pytorch-ood %.1e, scores up to %.4g", name, worst, worstPeer, size)
		if !(worst <= 3e-6*max(size, 1)) || !(worstPeer <= peerTolerance) {
			t.Errorf("%s: differs by %g from NumPy, by %g from pytorch-ood, at scores of up to %g", name, worst, worstPeer, size)
		}
	}
}

// TestAlwaysZeroFeaturesDoNotCount adds features that are zero in training: the Gaussians leave them out.
func TestAlwaysZeroFeaturesDoNotCount(t *testing.T) {
	r := load(t)
	wider := func(m matrix.Matrix, by float32) matrix.Matrix {
		out := matrix.New(m.Rows, m.Cols+2)
		for i := range m.Rows {
			copy(out.Row(i), m.Row(i))
			out.Row(i)[m.Cols] = by
		}
		return out
	}
	w := r.Training
	w.Features, w.Weight = wider(r.Features, 0), wider(r.Weight, 0)
	out := extended(t, classifier(t, w, 0), w, Options{})
	got := scored(t, out.Model, wider(r.test, 3), "mds", "rmds")
	for _, name := range []string{"mds", "rmds"} {
		for i, v := range got[name] {
			if want := r.numpy[name][i]; math.Abs(float64(v)-want) > 1e-5*max(1, math.Abs(want))*10 {
				t.Fatalf("%s of row %d is %g with dead features, %g without", name, i, v, want)
			}
		}
	}
}

func TestHeadAndNegativeFeatures(t *testing.T) {
	r := load(t)
	out := extended(t, classifier(t, r.Training, -2.5), r.Training, Options{})
	got := scored(t, out.Model, r.test, Head, Energy)
	for i, v := range got[Head] {
		if want := -2.5 * got[Energy][i]; math.Abs(float64(v-want)) > 1e-4 {
			t.Fatalf("head %g of an energy of %g", v, got[Energy][i])
		}
	}
	negative := r.Training
	negative.Features = matrix.Matrix{Rows: r.Features.Rows, Cols: r.Features.Cols, Data: slices.Clone(r.Features.Data)}
	negative.Features.Data[5] = -1
	out = extended(t, classifier(t, r.Training, 0), negative, Options{})
	for _, name := range []string{"ash-s", "scale", Head} {
		if slices.Contains(out.Scores, name) || !errors.Is(out.Unfit[name], ErrUnfit) {
			t.Errorf("%s: fitted %v, %v", name, out.Scores, out.Unfit[name])
		}
	}
	if len(out.Scores) != len(All())-3 {
		t.Errorf("fitted %q", out.Scores)
	}
}

// TestExtremeInputsGiveNumbers: saturated and zero features score as finite numbers.
func TestExtremeInputsGiveNumbers(t *testing.T) {
	r := load(t)
	out := extended(t, classifier(t, r.Training, 1), r.Training, Options{})
	x := matrix.New(4, r.Features.Cols)
	for j := range x.Cols {
		x.Row(1)[j] = 1e3
		x.Row(2)[j] = 1e-20
		x.Row(3)[j] = r.Features.Row(0)[j]
	}
	for name, values := range scored(t, out.Model, x, out.Scores...) {
		for i, v := range values {
			// exp(s1/s2) reaches e⁷: 1e3 of it squared stays far below the largest float32.
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Errorf("%s of row %d is %g", name, i, v)
			}
		}
	}
}

// TestGENKeepsItsDigits: where the softmax is 1 to float32, 1−p is still known, and with γ = 0.1 it counts.
func TestGENKeepsItsDigits(t *testing.T) {
	r := load(t)
	out := extended(t, classifier(t, r.Training, 0), r.Training, Options{})
	x := matrix.New(20, r.Features.Cols)
	for i := range x.Rows {
		for j, v := range r.test.Row(i) {
			x.Row(i)[j] = 30 * v
		}
	}
	got := scored(t, out.Model, x, "gen", "logits")
	certain := 0
	for i, v := range got["gen"] {
		logits := make([]float64, 10)
		for c := range logits {
			logits[c] = float64(got["logits"][10*i+c])
		}
		slices.Sort(logits)
		var want float64
		for c, f := range logits {
			others := slices.Delete(slices.Clone(logits), c, c+1)
			want -= math.Exp(0.1 * (f + logSumExp(others) - 2*logSumExp(logits)))
		}
		if math.Abs(float64(v)-want) > 1e-5*math.Abs(want) {
			t.Errorf("row %d: GEN %g, want %g", i, v, want)
		}
		if logSumExp(logits[:9])-logits[9] < -20 { // 1−p below 1e-8, which float32 rounds to 0
			certain++
		}
	}
	if certain < 5 {
		t.Fatalf("only %d rows are certain", certain)
	}
}

func TestBankIsChosenBySeed(t *testing.T) {
	r := load(t)
	model := classifier(t, r.Training, 0)
	small := extended(t, model, r.Training, Options{KNNRows: 300})
	again := extended(t, model, r.Training, Options{KNNRows: 300})
	if !slices.Equal(small.Model, again.Model) {
		t.Error("the same fit twice gives different models")
	}
	m, err := onnxpb.Unmarshal(small.Model)
	if err != nil {
		t.Fatal(err)
	}
	var about string
	for _, p := range m.MetadataProps {
		if p.Key == Metadata {
			about = p.Value
		}
	}
	// Half of the bank, so half of K = 50: the same share of the training pictures lies nearer.
	if !strings.Contains(about, `"params":{"bank":300,"k":25}`) {
		t.Errorf("metadata %s", about)
	}
	half, all := scored(t, small.Model, r.test, "knn")["knn"], r.numpy["knn"]
	for i, v := range half {
		if math.Abs(float64(v)-all[i]) > 0.1 {
			t.Errorf("row %d: %g with half of the bank, %g with all", i, v, all[i])
		}
	}
}

func TestPrunedModelHasTheSameScores(t *testing.T) {
	r := load(t)
	out := extended(t, classifier(t, r.Training, 0), r.Training, Options{})
	all := scored(t, out.Model, r.test, out.Scores...)
	for _, name := range out.Scores {
		m, err := onnxpb.Unmarshal(out.Model)
		if err != nil {
			t.Fatal(err)
		}
		if err := onnxpb.Prune(m, name); err != nil {
			t.Fatal(err)
		}
		small, err := onnxpb.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := scored(t, small, r.test, name); !slices.Equal(got[name], all[name]) {
			t.Errorf("%s differs where the others are pruned", name)
		}
		if name == "msp" && len(small) > len(out.Model)/10 {
			t.Errorf("msp alone takes %d of %d bytes", len(small), len(out.Model))
		}
	}
	m, _ := onnxpb.Unmarshal(out.Model)
	if err := onnxpb.Prune(m, "none"); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("an output that is not there: %v", err)
	}
}

func TestBadInputIsRefused(t *testing.T) {
	r := load(t)
	model := classifier(t, r.Training, 0)
	for name, c := range map[string]struct {
		features matrix.Matrix
		labels   []int
		says     string
	}{
		"too few labels": {r.Features, r.Labels[1:], "599 labels"},
		"other width":    {matrix.New(600, 3), r.Labels, "features [600, 3]"},
		"a class alone":  {r.Features, make([]int, 600), "class 1 has no training picture"},
		"label too high": {r.Features, slices.Repeat([]int{10}, 600), "label 0 is 10"},
		"not finite":     {matrix.Matrix{Rows: 600, Cols: 64, Data: slices.Repeat([]float32{float32(math.NaN())}, 600*64)}, r.Labels, "NaN"},
	} {
		if _, err := Extend(model, c.features, c.labels, Options{}, 1); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, _ := onnxpb.Unmarshal(model)
	m.Graph.Node[0].OpType = "MatMul"
	odd, _ := onnxpb.Marshal(m)
	if _, err := Extend(odd, r.Features, r.Labels, Options{}, 1); err == nil || !strings.Contains(err.Error(), "no linear layer") {
		t.Errorf("another last layer: %v", err)
	}
	m.OpsetImport[0].Version = 13
	old, _ := onnxpb.Marshal(m)
	if _, err := Extend(old, r.Features, r.Labels, Options{}, 1); err == nil || !strings.Contains(err.Error(), "opset") {
		t.Errorf("an old opset: %v", err)
	}
	if err := Known("enrgy"); err == nil || !strings.Contains(err.Error(), "energy") {
		t.Errorf("an unknown score: %v", err)
	}
}
