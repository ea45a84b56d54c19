package diffusion

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// The inputs and outputs of a loop graph, beside the text embeddings, which
// keep the name that the U-Net has for them.
const (
	loopPrefix    = "dreamood_loop_"
	loopLatents   = loopPrefix + "latents"   // float32 [B, C, h, w]
	loopHistory   = loopPrefix + "history"   // float32 [2·lags, B, C, h, w]: samples and outputs of the steps before, latest first
	loopGuidance  = loopPrefix + "guidance"  // float32 [B, 1, 1, 1]; of guided graphs
	loopTimesteps = loopPrefix + "timesteps" // float32 [N]
	loopInput     = loopPrefix + "input"     // float32 [N]
	loopWeights   = loopPrefix + "weights"   // float32 [N, 2+2·lags]
	loopStart     = loopPrefix + "start"     // int64 scalar: the first step
	loopCount     = loopPrefix + "count"     // int64 scalar: how many
	loopLatentsTo = loopPrefix + "latents_to"
	loopHistoryTo = loopPrefix + "history_to"
)

// loopGraph makes a model that runs a U-Net for many steps of a linear
// schedule in one run, with classifier-free guidance where the first half of
// the text embeddings is without the prompts. On a GPU the latents stay there
// from the first step to the last, and a step launches nothing from here.
// u describes the U-Net; its model is used up.
func loopGraph(model *onnxpb.ModelProto, u *unet, guided bool) (*onnxpb.ModelProto, error) {
	opset := int64(0)
	for _, o := range model.OpsetImport {
		if o.Domain == "" || o.Domain == "ai.onnx" {
			opset = o.Version
		}
	}
	if opset < 13 {
		return nil, fmt.Errorf("opset %d: a loop of steps wants 13 or later", opset)
	}
	inner := model.Graph
	hidden := slices.IndexFunc(inner.Input, func(v *onnxpb.ValueInfoProto) bool { return v.Name == u.hidden.Name })
	if hidden < 0 {
		return nil, errors.New("the U-Net has no input for text embeddings")
	}
	data, err := onnxpb.Marshal(&onnxpb.ModelProto{IrVersion: model.IrVersion, OpsetImport: model.OpsetImport, Graph: &onnxpb.GraphProto{Name: "inputs", Input: inner.Input, Output: inner.Output}})
	if err != nil {
		return nil, err
	}
	declared, _, err := onnx.Describe(data)
	if err != nil {
		return nil, err
	}
	b := &loopBuilder{u: u, guided: guided}
	for _, in := range declared {
		switch in.Name {
		case u.sample.Name:
			b.sample = in
		case u.hidden.Name:
		default:
			b.timestep = in
		}
	}
	before, after := b.before(), b.after()
	text := inner.Input[hidden]
	inner.Name, inner.Node, inner.Initializer = loopPrefix+"step", slices.Concat(before, inner.Node, after), append(inner.Initializer, b.constants...)
	inner.ValueInfo = nil // exporters' claims about shapes, which are checked more strictly inside of a loop
	inner.Input = []*onnxpb.ValueInfoProto{
		onnxpb.Value(loopPrefix+"iteration", onnxpb.TensorProto_INT64), onnxpb.Value(loopPrefix+"go", onnxpb.TensorProto_BOOL),
		b.latents(loopPrefix + "x"), b.history(loopPrefix + "h"),
	}
	inner.Output = []*onnxpb.ValueInfoProto{
		onnxpb.Value(loopPrefix+"goes", onnxpb.TensorProto_BOOL), b.latents(loopPrefix + "x_next"), b.history(loopPrefix + "h_next"),
	}
	inputs := []*onnxpb.ValueInfoProto{
		b.latents(loopLatents), b.history(loopHistory), text,
		onnxpb.Value(loopTimesteps, onnxpb.TensorProto_FLOAT, "n"), onnxpb.Value(loopInput, onnxpb.TensorProto_FLOAT, "n"),
		onnxpb.Value(loopWeights, onnxpb.TensorProto_FLOAT, "n", "terms"),
		onnxpb.Value(loopStart, onnxpb.TensorProto_INT64), onnxpb.Value(loopCount, onnxpb.TensorProto_INT64),
	}
	if guided {
		inputs = append(inputs, onnxpb.Value(loopGuidance, onnxpb.TensorProto_FLOAT, "pictures", 1, 1, 1))
	}
	loop := onnxpb.Node("Loop", []string{loopCount, "", loopLatents, loopHistory}, []string{loopLatentsTo, loopHistoryTo}, onnxpb.AttrGraph("body", inner))
	model.Graph = &onnxpb.GraphProto{
		Name: loopPrefix + "graph", Node: []*onnxpb.NodeProto{loop}, Input: inputs,
		Output: []*onnxpb.ValueInfoProto{b.latents(loopLatentsTo), b.history(loopHistoryTo)},
	}
	return model, nil
}

// loopBuilder makes the nodes around the U-Net.
type loopBuilder struct {
	u         *unet
	guided    bool
	sample    onnx.IO // of the U-Net as it is put into the loop
	timestep  onnx.IO
	constants []*onnxpb.TensorProto
}

func (b *loopBuilder) latents(name string) *onnxpb.ValueInfoProto {
	return onnxpb.Value(name, onnxpb.TensorProto_FLOAT, "pictures", b.u.channels, b.u.height, b.u.width)
}

func (b *loopBuilder) history(name string) *onnxpb.ValueInfoProto {
	return onnxpb.Value(name, onnxpb.TensorProto_FLOAT, "kept", "pictures", b.u.channels, b.u.height, b.u.width)
}

// ints is the name of a constant.
func (b *loopBuilder) ints(values ...int64) string {
	name := fmt.Sprintf("%sconstant_%d", loopPrefix, len(b.constants))
	b.constants = append(b.constants, onnxpb.Int64s(name, values, int64(len(values))))
	return name
}

// node is one with its own names.
func loopNode(op, out string, in []string, attrs ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	n := onnxpb.Node(op, in, []string{out}, attrs...)
	n.Name = loopPrefix + out
	return n
}

func cast(to onnx.DType) *onnxpb.AttributeProto { return onnxpb.AttrInt("to", int64(to)) }

// before computes the U-Net's sample and timestep of the step.
func (b *loopBuilder) before() []*onnxpb.NodeProto {
	p := loopPrefix
	nodes := []*onnxpb.NodeProto{
		loopNode("Add", p+"step_index", []string{p + "iteration", loopStart}),
		loopNode("Gather", p+"factor", []string{loopInput, p + "step_index"}, onnxpb.AttrInt("axis", 0)),
		loopNode("Mul", p+"seen", []string{p + "x", p + "factor"}),
	}
	seen := p + "seen"
	if b.guided {
		nodes = append(nodes, loopNode("Concat", p+"twice", []string{seen, seen}, onnxpb.AttrInt("axis", 0)))
		seen = p + "twice"
	}
	t := p + "t_cast"
	if len(b.timestep.Shape) == 0 {
		t = b.timestep.Name
	}
	nodes = append(nodes,
		loopNode("Cast", b.sample.Name, []string{seen}, cast(b.sample.DType)),
		loopNode("Gather", p+"t", []string{loopTimesteps, p + "step_index"}, onnxpb.AttrInt("axis", 0)),
		loopNode("Cast", t, []string{p + "t"}, cast(b.timestep.DType)),
	)
	if len(b.timestep.Shape) == 0 {
		return nodes
	}
	length := b.ints(max(1, b.timestep.Shape[0]))
	if symbol := b.timestep.Symbol(0); b.timestep.Shape[0] < 0 && (b.u.rewrites.mixed || symbol != "" && symbol == b.sample.Symbol(0)) {
		nodes = append(nodes, loopNode("Shape", p+"shape", []string{seen}), loopNode("Slice", p+"rows", []string{p + "shape", b.ints(0), b.ints(1)}))
		length = p + "rows"
	}
	return append(nodes, loopNode("Expand", b.timestep.Name, []string{t, length}))
}

// after guides the output and moves the sample.
func (b *loopBuilder) after() []*onnxpb.NodeProto {
	p, c, h, w := loopPrefix, int64(b.u.channels), int64(b.u.height), int64(b.u.width)
	nodes := []*onnxpb.NodeProto{loopNode("Cast", p+"out", []string{b.u.out.Name}, cast(onnx.Float32))}
	out := p + "out"
	if b.guided {
		b.constants = append(b.constants, onnxpb.Int64s(p+"zero", []int64{0}), onnxpb.Int64s(p+"one", []int64{1}))
		nodes = append(nodes,
			loopNode("Reshape", p+"halves", []string{out, b.ints(2, -1, c, h, w)}),
			loopNode("Gather", p+"without", []string{p + "halves", p + "zero"}, onnxpb.AttrInt("axis", 0)),
			loopNode("Gather", p+"with", []string{p + "halves", p + "one"}, onnxpb.AttrInt("axis", 0)),
			loopNode("Sub", p+"towards", []string{p + "with", p + "without"}),
			loopNode("Mul", p+"far", []string{p + "towards", loopGuidance}),
			loopNode("Add", p+"guided", []string{p + "without", p + "far"}),
		)
		out = p + "guided"
	}
	row := b.ints(1, -1, c, h, w)
	return append(nodes,
		loopNode("Reshape", p+"x_row", []string{p + "x", row}),
		loopNode("Reshape", p+"out_row", []string{out, row}),
		loopNode("Concat", p+"terms", []string{p + "x_row", p + "out_row", p + "h"}, onnxpb.AttrInt("axis", 0)),
		loopNode("Gather", p+"weights_of", []string{loopWeights, p + "step_index"}, onnxpb.AttrInt("axis", 0)),
		loopNode("Reshape", p+"weights_row", []string{p + "weights_of", b.ints(-1, 1, 1, 1, 1)}),
		loopNode("Mul", p+"weighed", []string{p + "terms", p + "weights_row"}), // no MatMul: TF32 would round it
		loopNode("ReduceSum", p+"x_next", []string{p + "weighed", b.ints(0)}, onnxpb.AttrInt("keepdims", 0)),
		loopNode("Slice", p+"h_next", []string{p + "terms", b.ints(0), b.ints(-2), b.ints(0)}),
		loopNode("Identity", p+"goes", []string{p + "go"}),
	)
}
