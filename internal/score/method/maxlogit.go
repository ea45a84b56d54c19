package method

// maxLogit is the largest logit (Hendrycks et al., ICML 2022).
func maxLogit() Method {
	return Method{Name: "maxlogit", Source: "Hendrycks et al., ICML 2022", fit: func(*fitting, Options) (fitted, error) {
		return fitted{emit: func(g *emitter, in inputs) string { return g.reduce("ReduceMax", in.logits) }}, nil
	}}
}
