package method

import "fmt"

// nnGuide is the energy times the mean of the K largest inner products with a bank of training features at length 1,
// each times its own energy (Park, Jung and Teoh, ICCV 2023).
func nnGuide() Method {
	return Method{Name: "nnguide", Source: "Park, Jung and Teoh, ICCV 2023", fit: func(t *fitting, o Options) (fitted, error) {
		var bank []float32
		rows := 0
		for _, i := range t.chosen(o.GuideRows, "score.nnguide") {
			if unit, ok := t.unit(i); ok {
				times(t.energies[i], unit)
				bank = append(bank, narrow(unit)...)
				rows++
			}
		}
		k := min(o.GuideK, max(1, rows/10))
		if rows == 0 {
			return fitted{}, fmt.Errorf("%w: all training features are zero", ErrUnfit)
		}
		return fitted{params: map[string]any{"k": k, "bank": rows}, emit: func(g *emitter, in inputs) string {
			unit := g.div(in.features, g.length(in.features))
			guide := g.reduce("ReduceMean", g.largest(g.product(unit, g.floats(bank, rows, t.Features.Cols)), k))
			return g.mul(guide, g.logSumExp(in.logits))
		}}, nil
	}}
}
