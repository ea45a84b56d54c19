package method

// scale is the energy with all activations times exp(s1/s2) (Xu et al., ICLR 2024).
func scale() Method {
	return Method{Name: "scale", Source: "Xu et al., ICLR 2024", fit: func(t *fitting, o Options) (fitted, error) {
		k := kept(t.Features.Cols, o.SCALEPercentile)
		return fitted{params: map[string]any{"percentile": o.SCALEPercentile, "kept": k}, emit: func(g *emitter, in inputs) string {
			return g.logSumExp(g.layer(g.mul(in.features, g.sharpening(in.features, g.largest(in.features, k))), in))
		}}, t.nonNegative()
	}}
}
