package method

import "github.com/dreamood/dreamood/internal/onnx/onnxpb"

// gen is the generalised entropy −Σ pᵞ(1−p)ᵞ over the most probable classes (Liu, Lochman and Zach, CVPR 2023).
//
// For the most probable class 1−p is the sum of the others, taken in the logarithm: where p is nearly 1 the difference
// would lose all digits, and with γ = 0.1 they count.
func gen() Method {
	return Method{Name: "gen", Source: "Liu, Lochman and Zach, CVPR 2023", fit: func(t *fitting, o Options) (fitted, error) {
		top := min(o.GENTop, t.Weight.Rows)
		return fitted{params: map[string]any{"gamma": o.GENGamma, "top": top}, emit: func(g *emitter, in inputs) string {
			sorted := g.largest(in.logits, t.Weight.Rows)
			sum := g.logSumExp(sorted)
			logp := g.sub(sorted, sum)
			first := g.sub(g.logSumExp(g.columns(sorted, 1, toEnd)), sum)
			rest := g.log(g.sub(g.scalar(1), g.exp(g.columns(logp, 1, toEnd)))) // p ≤ 1/2
			logq := g.op("Concat", []string{first, rest}, onnxpb.AttrInt("axis", 1))
			terms := g.exp(g.mul(g.add(logp, logq), g.scalar(o.GENGamma)))
			return g.neg(g.reduce("ReduceSum", g.columns(terms, 0, int64(top))))
		}}, nil
	}}
}
