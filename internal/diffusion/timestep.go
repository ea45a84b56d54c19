package diffusion

import (
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// widenTimestep makes a whole-number input a float32 one, so that timesteps may
// have fractions as they may in diffusers. It says whether it could: wherever
// the input goes it must be cast to a floating-point type before it is computed
// with. Whole timesteps give the same bits as before.
func widenTimestep(m *onnxpb.ModelProto, name string) bool {
	g := m.Graph
	carried := map[string]bool{name: true} // values that are the timestep, whole until now
	for _, n := range g.Node {             // in topological order
		for _, a := range n.Attribute {
			if a.G != nil || len(a.Graphs) > 0 {
				return false // it may use the timestep inside
			}
		}
		if !slices.ContainsFunc(n.Input, func(in string) bool { return carried[in] }) {
			continue
		}
		if slices.ContainsFunc(n.Input[1:], func(in string) bool { return carried[in] }) {
			return false
		}
		switch n.OpType {
		case "Shape":
		case "Unsqueeze", "Squeeze", "Expand", "Reshape", "Identity":
			carried[n.Output[0]] = true
		case "Cast":
			switch onnxpb.TensorProto_DataType(attribute(n, "to", 0)) {
			case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_FLOAT16, onnxpb.TensorProto_BFLOAT16, onnxpb.TensorProto_DOUBLE:
			default:
				return false
			}
		default:
			return false
		}
	}
	for _, out := range g.Output {
		if carried[out.Name] {
			return false
		}
	}
	g.ValueInfo = slices.DeleteFunc(g.ValueInfo, func(v *onnxpb.ValueInfoProto) bool { return carried[v.Name] })
	for _, in := range g.Input {
		if in.Name == name {
			in.GetType().GetTensorType().ElemType = int32(onnxpb.TensorProto_FLOAT)
		}
	}
	return true
}
