package method

import (
	"fmt"
	"math"
)

// knn is minus the distance of the features at length 1 to their K-th neighbour among training features (Sun et al.,
// ICML 2022). Of many training pictures a random part is kept, and K falls with it, so that the same share of them lies
// nearer.
func knn() Method {
	return Method{Name: "knn", Source: "Sun et al., ICML 2022", fit: func(t *fitting, o Options) (fitted, error) {
		var bank []float32
		rows := 0
		for _, i := range t.chosen(o.KNNRows, "score.knn") {
			if unit, ok := t.unit(i); ok {
				bank = append(bank, narrow(unit)...)
				rows++
			}
		}
		k := int(math.Round(float64(o.KNNK) * float64(rows) / float64(t.Features.Rows)))
		k = min(max(k, 1), rows)
		if rows == 0 {
			return fitted{}, fmt.Errorf("%w: all training features are zero", ErrUnfit)
		}
		return fitted{params: map[string]any{"k": k, "bank": rows}, emit: func(g *emitter, in inputs) string {
			unit := g.div(in.features, g.length(in.features))
			nearest := g.largest(g.product(unit, g.floats(bank, rows, t.Features.Cols)), k)
			cosine := g.columns(nearest, int64(k-1), int64(k))
			return g.neg(g.sqrt(g.op("Relu", []string{g.mul(g.sub(g.scalar(1), cosine), g.scalar(2))})))
		}}, nil
	}}
}
