package method

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// distances are the squared Mahalanobis distances to all class means under the covariance that the classes share,
// [N, C] float64. They are sums of squares of differences in whitened coordinates, which lose no digits.
func (t *fitting) distances(w *whitening) func(g *emitter, in inputs) string {
	var centres []float64
	for _, c := range t.centres {
		centres = append(centres, w.apply(c, t.mean)...)
	}
	return func(g *emitter, in inputs) string {
		y := g.op("Unsqueeze", []string{w.emit(g, in.features, t.mean), g.ints(1)})
		d := g.sub(y, g.doubles(centres, 1, len(t.centres), len(w.rows)))
		return g.op("ReduceSum", []string{g.mul(d, d), g.ints(-1)}, onnxpb.AttrInt("keepdims", 0))
	}
}

// mds is minus the squared Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018), without the
// perturbation of the input.
func mds() Method {
	return Method{Name: "mds", Source: "Lee et al., NeurIPS 2018", fit: func(t *fitting, _ Options) (fitted, error) {
		w, err := t.inClasses()
		if err != nil {
			return fitted{}, err
		}
		distances := t.distances(w)
		return fitted{params: map[string]any{"rank": len(w.rows)}, emit: func(g *emitter, in inputs) string {
			return g.to(g.neg(g.reduce("ReduceMin", distances(g, in))), onnxpb.TensorProto_FLOAT)
		}}, nil
	}}
}
