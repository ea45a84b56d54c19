package method

import "slices"

// reAct is the energy with activations cut at a percentile of the ID activations (Sun, Guo and Li, NeurIPS 2021).
func reAct() Method {
	return Method{Name: "react", Source: "Sun, Guo and Li, NeurIPS 2021", fit: func(t *fitting, o Options) (fitted, error) {
		cut := percentile(slices.Clone(t.Features.Data), o.ReActPercentile)
		return fitted{params: map[string]any{"percentile": o.ReActPercentile, "cut": cut}, emit: func(g *emitter, in inputs) string {
			return g.logSumExp(g.layer(g.op("Min", []string{in.features, g.scalar(cut)}), in))
		}}, nil
	}}
}
