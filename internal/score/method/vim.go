package method

import (
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// vim is the energy minus α times the length of the features' part outside of the principal space of the training
// features, both seen from the point where all logits are zero (Wang et al., CVPR 2022). α brings the two to one scale.
func vim() Method {
	return Method{Name: "vim", Source: "Wang et al., CVPR 2022", fit: func(t *fitting, o Options) (fitted, error) {
		n, d := t.Features.Rows, t.Features.Cols
		principal := o.ViMDimension
		if principal == 0 || principal >= d {
			principal = d / 2
		}
		origin, err := t.origin()
		if err != nil {
			return fitted{}, err
		}
		x := mat.NewDense(n, d, nil)
		for i := range n {
			t.deviation(x.RawRowView(i), i, origin)
		}
		_, vectors, err := eigen(x)
		if err != nil {
			return fitted{}, err
		}
		outside := &whitening{} // here only a projection: the directions of the least variance
		for k := range d - principal {
			outside.rows = append(outside.rows, mat.Col(nil, k, vectors))
		}
		residuals := make([]float64, n)
		for i := range n {
			z := make([]float64, d)
			t.deviation(z, i, make([]float64, d))
			for _, v := range outside.apply(z, origin) {
				residuals[i] += v * v
			}
			residuals[i] = sqrt(residuals[i])
		}
		if mean(residuals) == 0 {
			return fitted{}, fmt.Errorf("%w: nothing of the features lies outside of their %d principal directions", ErrUnfit, principal)
		}
		alpha := mean(t.tops) / mean(residuals)
		return fitted{params: map[string]any{"dimension": principal, "alpha": alpha}, emit: func(g *emitter, in inputs) string {
			y := outside.emit(g, in.features, origin)
			residual := g.to(g.sqrt(g.reduce("ReduceSum", g.mul(y, y))), onnxpb.TensorProto_FLOAT)
			return g.sub(g.logSumExp(in.logits), g.mul(residual, g.scalar(alpha)))
		}}, nil
	}}
}

// origin is −W⁺b, [D].
func (t *fitting) origin() ([]float64, error) {
	c, d := t.Weight.Rows, t.Weight.Cols
	w, b := mat.NewDense(c, d, nil), mat.NewVecDense(c, nil)
	for y := range c {
		for j, v := range t.Weight.Row(y) {
			w.Set(y, j, float64(v))
		}
		b.SetVec(y, -float64(t.Bias[y]))
	}
	var svd mat.SVD
	if !svd.Factorize(w, mat.SVDThin) {
		return nil, fmt.Errorf("the singular values of the last layer [%d, %d] did not converge", c, d)
	}
	var u, v mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	values := svd.Values(nil)
	out := make([]float64, d)
	for k, s := range values {
		if s <= 1e-7*values[0] { // float32 weights resolve no finer
			continue
		}
		share := mat.Dot(u.ColView(k), b) / s
		for j := range out {
			out[j] += share * v.At(j, k)
		}
	}
	return out, nil
}
