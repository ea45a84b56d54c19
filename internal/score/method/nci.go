package method

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// nci is the part of the predicted class's weights along the features' direction from their training mean, plus α times
// the L1 norm of the features (Liu and Qin, CVPR 2025).
func nci() Method {
	return Method{Name: "nci", Source: "Liu and Qin, CVPR 2025", fit: func(t *fitting, o Options) (fitted, error) {
		return fitted{params: map[string]any{"alpha": o.NCIAlpha}, emit: func(g *emitter, in inputs) string {
			class := g.op("ArgMax", []string{in.logits}, onnxpb.AttrInt("axis", 1), onnxpb.AttrInt("keepdims", 0))
			weights := g.op("Gather", []string{in.weight, class}, onnxpb.AttrInt("axis", 0))
			from := g.sub(in.features, g.floats(narrow(t.mean), 1, len(t.mean)))
			along := g.div(g.reduce("ReduceSum", g.mul(weights, from)), g.length(from))
			return g.add(along, g.mul(g.reduce("ReduceSum", g.op("Abs", []string{in.features})), g.scalar(o.NCIAlpha)))
		}}, nil
	}}
}
