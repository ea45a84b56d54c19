package method

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// rmds is minus the Mahalanobis distance to the nearest class mean relative to that to all training pictures (Ren et al.,
// 2021, arXiv 2106.09022).
func rmds() Method {
	return Method{Name: "rmds", Source: "Ren et al., 2021, arXiv 2106.09022", fit: func(t *fitting, _ Options) (fitted, error) {
		within, err := t.inClasses()
		if err != nil {
			return fitted{}, err
		}
		whole, err := newWhitening(t.Features.Rows, t.Features.Cols, func(dst []float64, i int) { t.deviation(dst, i, t.mean) })
		if err != nil {
			return fitted{}, err
		}
		distances := t.distances(within)
		return fitted{params: map[string]any{"rank": len(within.rows), "background_rank": len(whole.rows)}, emit: func(g *emitter, in inputs) string {
			y := whole.emit(g, in.features, t.mean)
			return g.to(g.sub(g.reduce("ReduceSum", g.mul(y, y)), g.reduce("ReduceMin", distances(g, in))), onnxpb.TensorProto_FLOAT)
		}}, nil
	}}
}
