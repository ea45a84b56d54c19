package method

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Names that a classifier's ONNX model has for what scores are made of, and that of its metadata about them.
const (
	featuresName = "features"
	logitsName   = "logits"
	headName     = "ood_score"
	Metadata     = "dreamood.scores"
)

// minOpset is the version from which on reductions take their axes as inputs.
const minOpset = 18

// Result says which scores a model has, and why not the others.
type Result struct {
	Model  []byte
	Scores []string         // outputs of the model, in the order of All
	Unfit  map[string]error // those that are not defined for this detector
}

// Layer is the last layer of a classifier: its logits are features·Weightᵀ + Bias.
type Layer struct {
	Weight       matrix.Matrix // [C, D]
	Bias         []float32     // [C]
	weight, bias string        // names of the initialisers
}

// LastLayer finds the layer between the outputs `features` [N, D] and `logits` [N, C] of a classifier.
func LastLayer(m *onnxpb.ModelProto) (Layer, error) {
	produced := map[string]*onnxpb.NodeProto{}
	for _, n := range m.Graph.Node {
		for _, out := range n.Output {
			produced[out] = n
		}
	}
	origin := func(name string) string { // behind Identity
		for produced[name] != nil && produced[name].OpType == "Identity" {
			name = produced[name].Input[0]
		}
		return name
	}
	last := produced[origin(logitsName)]
	if last == nil || last.OpType != "Gemm" || len(last.Input) != 3 || origin(last.Input[0]) != origin(featuresName) {
		return Layer{}, fmt.Errorf("the model has no linear layer between its outputs %q and %q; scores are fitted on such classifiers", featuresName, logitsName)
	}
	for _, a := range last.Attribute {
		if a.Name == "transB" && a.GetI() != 1 || a.Name == "transA" && a.GetI() != 0 || (a.Name == "alpha" || a.Name == "beta") && a.GetF() != 1 {
			return Layer{}, fmt.Errorf("the last layer has %s of another value than features·Wᵀ + b wants", a.Name)
		}
	}
	l := Layer{weight: last.Input[1], bias: last.Input[2]}
	weight, bias := m.Graph.FindInitializer(l.weight), m.Graph.FindInitializer(l.bias)
	if weight == nil || bias == nil || len(weight.Dims) != 2 || len(bias.Dims) != 1 {
		return Layer{}, fmt.Errorf("the last layer's weights %q [C, D] and bias %q [C] are not stored in the model", l.weight, l.bias)
	}
	w, err := onnxpb.Floats(weight)
	if err != nil {
		return Layer{}, fmt.Errorf("weights of the last layer: %w", err)
	}
	l.Weight = matrix.Matrix{Rows: int(weight.Dims[0]), Cols: int(weight.Dims[1]), Data: w}
	if l.Bias, err = onnxpb.Floats(bias); err != nil {
		return Layer{}, fmt.Errorf("bias of the last layer: %w", err)
	}
	return l, nil
}

// Extend fits all scores on training features [N, D] with labels, and adds them to the classifier's ONNX model as
// outputs [N]. Scores that are not defined for it are left out and named. The model's last layer must be linear.
func Extend(model []byte, features matrix.Matrix, labels []int, o Options, seed uint64) (Result, error) {
	m, err := onnxpb.Unmarshal(model)
	if err != nil {
		return Result{}, fmt.Errorf("add scores: %w", err)
	}
	if len(m.OpsetImport) == 0 || m.OpsetImport[0].Version < minOpset {
		return Result{}, fmt.Errorf("add scores: the model is of opset %v, want %d or later", m.OpsetImport, minOpset)
	}
	layer, err := LastLayer(m)
	if err != nil {
		return Result{}, fmt.Errorf("add scores: %w", err)
	}
	t := Training{Features: features, Labels: labels, Weight: layer.Weight, Bias: layer.Bias, Seed: seed}
	if err := t.check(); err != nil {
		return Result{}, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(m.Graph.Output, func(v *onnxpb.ValueInfoProto) bool { return v.Name == name })
	}
	in := inputs{features: featuresName, logits: logitsName, weight: layer.weight, bias: layer.bias}
	if has(headName) {
		in.head = headName
	}
	g, f := &emitter{graph: m.Graph}, newFitting(t)
	r := Result{Unfit: map[string]error{}}
	type described struct {
		Name   string         `json:"name"`
		Source string         `json:"source"`
		Params map[string]any `json:"params,omitempty"`
	}
	var about []described
	for _, method := range All() {
		fit, err := method.fit(f, o.withDefaults())
		if method.Name == Head && in.head == "" {
			err = noHead()
		}
		if errors.Is(err, ErrUnfit) {
			r.Unfit[method.Name] = err
			continue
		}
		if err != nil {
			return Result{}, fmt.Errorf("fit score %s: %w", method.Name, err)
		}
		if !has(method.Name) {
			g.output(method.Name, fit.emit(g, in))
		}
		r.Scores = append(r.Scores, method.Name)
		about = append(about, described{method.Name, method.Source, fit.params})
	}
	text, err := json.Marshal(about)
	if err != nil {
		return Result{}, fmt.Errorf("describe scores: %w", err)
	}
	m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: Metadata, Value: string(text)})
	if r.Model, err = onnxpb.Marshal(m); err != nil {
		return Result{}, fmt.Errorf("add scores: %w", err)
	}
	return r, nil
}

// Describe adds custom metadata to a model, in the order of the keys; keys that it has already are replaced.
func Describe(model []byte, about map[string]string) ([]byte, error) {
	m, err := onnxpb.Unmarshal(model)
	if err != nil {
		return nil, fmt.Errorf("describe a model: %w", err)
	}
	m.MetadataProps = slices.DeleteFunc(m.MetadataProps, func(p *onnxpb.StringStringEntryProto) bool {
		_, again := about[p.Key]
		return again
	})
	for _, key := range slices.Sorted(maps.Keys(about)) {
		m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: key, Value: about[key]})
	}
	return onnxpb.Marshal(m)
}
