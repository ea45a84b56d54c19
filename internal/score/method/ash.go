package method

import (
	"math"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// kept is how many of d activations lie above a percentile, as OpenOOD counts them.
func kept(d int, percentile float64) int {
	return max(1, d-int(math.RoundToEven(float64(d)*percentile/100)))
}

// sharpening is exp(s1/s2) of each row, [N, 1]: s1 the sum of its activations, s2 that of the k largest of them. 1 where
// all are zero.
func (g *emitter) sharpening(features, largest string) string {
	s2 := g.op("Max", []string{g.reduce("ReduceSum", largest), g.scalar(1e-30)})
	return g.exp(g.div(g.reduce("ReduceSum", features), s2))
}

// ashS is the energy after activation shaping: only the largest activations stay, times exp(s1/s2) (Djurisic et al.,
// ICLR 2023). Activations that equal the smallest one kept stay, too.
func ashS() Method {
	return Method{Name: "ash-s", Source: "Djurisic et al., ICLR 2023", fit: func(t *fitting, o Options) (fitted, error) {
		k := kept(t.Features.Cols, o.ASHPercentile)
		return fitted{params: map[string]any{"percentile": o.ASHPercentile, "kept": k}, emit: func(g *emitter, in inputs) string {
			largest := g.largest(in.features, k)
			mask := g.op("Cast", []string{g.op("GreaterOrEqual", []string{in.features, g.columns(largest, int64(k-1), int64(k))})},
				onnxpb.AttrInt("to", int64(onnxpb.TensorProto_FLOAT)))
			shaped := g.mul(g.mul(in.features, mask), g.sharpening(in.features, largest))
			return g.logSumExp(g.layer(shaped, in))
		}}, t.nonNegative()
	}}
}
