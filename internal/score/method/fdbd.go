package method

import (
	"fmt"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// fdbd is the mean distance to the decision boundaries with all other classes, |f_y − f_c| / ‖w_y − w_c‖, divided by the
// distance of the features to their training mean (Liu and Qin, ICML 2024).
func fdbd() Method {
	return Method{Name: "fdbd", Source: "Liu and Qin, ICML 2024", fit: func(t *fitting, _ Options) (fitted, error) {
		c, d := t.Weight.Rows, t.Weight.Cols
		inverse := make([]float32, c*c) // of ‖w_y − w_c‖, over the number of other classes
		for y := range c {
			for other := range c {
				var square float64
				for j, w := range t.Weight.Row(y) {
					by := float64(w) - float64(t.Weight.Row(other)[j])
					square += by * by
				}
				if other == y {
					continue
				}
				if square == 0 {
					return fitted{}, fmt.Errorf("%w: classes %d and %d have the same weights", ErrUnfit, y, other)
				}
				inverse[y*c+other] = float32(1 / sqrt(square) / float64(c-1))
			}
		}
		return fitted{emit: func(g *emitter, in inputs) string {
			class := g.op("ArgMax", []string{in.logits}, onnxpb.AttrInt("axis", 1), onnxpb.AttrInt("keepdims", 0))
			weights := g.op("Gather", []string{g.floats(inverse, c, c), class}, onnxpb.AttrInt("axis", 0))
			apart := g.sub(g.reduce("ReduceMax", in.logits), in.logits)
			from := g.length(g.sub(in.features, g.floats(narrow(t.mean), 1, d)))
			return g.div(g.reduce("ReduceSum", g.mul(apart, weights)), from)
		}}, nil
	}}
}
