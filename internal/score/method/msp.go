package method

// msp is the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017).
func msp() Method {
	return Method{Name: "msp", Source: "Hendrycks and Gimpel, ICLR 2017", fit: func(*fitting, Options) (fitted, error) {
		return fitted{emit: func(g *emitter, in inputs) string {
			return g.exp(g.sub(g.reduce("ReduceMax", in.logits), g.logSumExp(in.logits)))
		}}, nil
	}}
}
