package method

// energy is the negative free energy, logsumexp of the logits (Liu et al., NeurIPS 2020), at temperature 1.
func energy() Method {
	return Method{Name: Energy, Source: "Liu et al., NeurIPS 2020", fit: func(*fitting, Options) (fitted, error) {
		return fitted{emit: func(g *emitter, in inputs) string { return g.logSumExp(in.logits) }}, nil
	}}
}
