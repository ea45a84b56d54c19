package diffusion

import (
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// contribDomain is ONNX Runtime's own operators'.
const contribDomain = "com.microsoft"

// fuseAttention replaces attention as exporters write it,
//
//	Softmax(scale · split(Q) · split(K)ᵀ) · split(V), joined again
//
// by ONNX Runtime's MultiHeadAttention, whose CPU kernel works in tiles that
// stay in the cache and never stores the [B, heads, S, S] matrix (Dao et al.
// 2022, "FlashAttention"). It returns how many it replaced. Where the scale is
// computed in the graph, it is taken for 1/√(width of a head); whoever calls
// this compares the outputs of both graphs.
func fuseAttention(m *onnxpb.ModelProto) int {
	x := indexGraph(m.Graph)
	var fused []attention
	for _, n := range m.Graph.Node {
		if isOp(n, "Softmax", 1) {
			if a, ok := x.attention(n); ok {
				fused = append(fused, a)
			}
		}
	}
	if len(fused) == 0 {
		return 0
	}
	for i, a := range fused {
		attrs := []*onnxpb.AttributeProto{onnxpb.AttrInt("num_heads", a.heads)}
		if a.scale > 0 {
			attrs = append(attrs, onnxpb.AttrFloat("scale", float32(a.scale)))
		}
		n := onnxpb.Node("MultiHeadAttention", []string{a.q, a.k, a.v}, []string{a.join.Output[0]}, attrs...)
		n.Domain, n.Name = contribDomain, fmt.Sprintf("%sattention_%d", surgeryPrefix, i)
		at := slices.Index(m.Graph.Node, a.join)
		m.Graph.Node[at] = n
	}
	if !slices.ContainsFunc(m.OpsetImport, func(o *onnxpb.OperatorSetIdProto) bool { return o.Domain == contribDomain }) {
		m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: contribDomain, Version: 1})
	}
	removeDead(m.Graph)
	return len(fused)
}

// attention is one that was found: its inputs are [B, S, heads·width] each.
type attention struct {
	q, k, v string
	heads   int64
	scale   float64           // of Q·Kᵀ; 0 where the graph computes it
	join    *onnxpb.NodeProto // the Reshape that joins the heads again
}

// attention follows a Softmax to both sides.
func (x *graphIndex) attention(softmax *onnxpb.NodeProto) (a attention, ok bool) {
	if axis := attribute(softmax, "axis", -1); axis != -1 && axis != 3 {
		return a, false
	}
	scores := x.makers[softmax.Input[0]]
	if !isOp(scores, "MatMul", 2) || x.only(scores.Output[0]) != softmax {
		return a, false
	}
	q, okQ := x.split(scores.Input[0], []int64{0, 2, 1, 3})
	k, okK := x.split(scores.Input[1], []int64{0, 2, 3, 1})
	mix := x.pass(softmax.Output[0])
	if !okQ || !okK || !isOp(mix, "MatMul", 2) || x.back(mix.Input[0]) != softmax.Output[0] {
		return a, false
	}
	v, okV := x.split(mix.Input[1], []int64{0, 2, 1, 3})
	if !okV || v.scaled || q.heads != k.heads || q.heads != v.heads {
		return a, false
	}
	a.q, a.k, a.v, a.heads, a.scale = q.source, k.source, v.source, q.heads, q.scale*k.scale
	turn := x.only(mix.Output[0])
	if !isOp(turn, "Transpose", 1) || !slices.Equal(attributeInts(turn, "perm"), []int64{0, 2, 1, 3}) {
		return a, false
	}
	a.join = x.only(turn.Output[0])
	return a, isOp(a.join, "Reshape", 2)
}

// pass is the only reader of a value, behind casts.
func (x *graphIndex) pass(value string) *onnxpb.NodeProto {
	n := x.only(value)
	for isOp(n, "Cast", 1) {
		n = x.only(n.Output[0])
	}
	return n
}

// back is a value before casts.
func (x *graphIndex) back(value string) string {
	for n := x.makers[value]; isOp(n, "Cast", 1); n = x.makers[value] {
		value = n.Input[0]
	}
	return value
}

// splitHeads is a value [B, S, heads·width] that was split, and scaled by a number
// which is 0 where it is computed.
type splitHeads struct {
	source string
	heads  int64
	scale  float64
	scaled bool
}

// split goes back over Transpose(Reshape(X, [B, S, heads, width])) and over
// multiplications with one number behind it.
func (x *graphIndex) split(value string, perm []int64) (h splitHeads, ok bool) {
	h.scale = 1
	n := x.makers[x.back(value)]
	for ; isOp(n, "Mul", 2) || isOp(n, "Div", 2); n = x.makers[x.back(value)] {
		side := 0
		if !x.isSplit(n.Input[0]) {
			side = 1
		}
		if side == 1 && n.OpType == "Div" {
			return h, false
		}
		factor := x.factor(n.Input[1-side])
		if n.OpType == "Div" && factor != 0 {
			factor = 1 / factor
		}
		h.scale, h.scaled, value = h.scale*factor, true, n.Input[side]
	}
	if !isOp(n, "Transpose", 1) || !slices.Equal(attributeInts(n, "perm"), perm) {
		return h, false
	}
	n = x.makers[n.Input[0]]
	if !isOp(n, "Reshape", 2) {
		return h, false
	}
	h.source = n.Input[0]
	h.heads, ok = x.headsOf(n.Input[1])
	return h, ok
}

// factor is a stored number, 0 where it is computed.
func (x *graphIndex) factor(value string) float64 {
	t := x.constant(value)
	if t == nil {
		return 0
	}
	f, err := onnxpb.Floats(t)
	if err != nil || len(f) != 1 {
		return 0
	}
	return float64(f[0])
}

// isSplit says whether a value comes, scaled or not, from a Transpose.
func (x *graphIndex) isSplit(value string) bool {
	for range 4 {
		n := x.makers[x.back(value)]
		if isOp(n, "Transpose", 1) {
			return true
		}
		if !isOp(n, "Mul", 2) && !isOp(n, "Div", 2) {
			return false
		}
		value = n.Input[0]
	}
	return false
}

// headsOf reads the third number of a shape [B, S, heads, width], which is
// stored, or put together of numbers some of which are computed.
func (x *graphIndex) headsOf(shape string) (int64, bool) {
	if dims, err := onnxpb.Ints(x.constant(shape)); err == nil {
		if len(dims) != 4 {
			return 0, false
		}
		return dims[2], dims[2] > 0
	}
	n := x.makers[shape]
	if !isOp(n, "Concat", 4) {
		return 0, false
	}
	if isOp(x.makers[n.Input[2]], "Unsqueeze", 2) {
		return x.number(x.makers[n.Input[2]].Input[0])
	}
	return x.number(n.Input[2])
}

// mixTimesteps makes a timestep of one number a vector of one per row of the
// batch, [B], so that rows of different steps share a call. The exporters
// write timestep → (Unsqueeze, Cast) → Expand to [B]: Expand leaves a vector of
// that length as it is. It says whether the graph was so.
func mixTimesteps(m *onnxpb.ModelProto, name string) bool {
	x := indexGraph(m.Graph)
	at := slices.IndexFunc(m.Graph.Input, func(in *onnxpb.ValueInfoProto) bool { return in.Name == name })
	if at < 0 || x.fixed[name] {
		return false
	}
	tensor := m.Graph.Input[at].GetType().GetTensorType()
	if tensor.GetShape() == nil || len(tensor.Shape.Dim) > 1 {
		return false
	}
	n := x.only(name)
	var lift *onnxpb.NodeProto
	for !isOp(n, "Expand", 2) {
		switch {
		case isOp(n, "Unsqueeze", 2) && lift == nil && len(tensor.Shape.Dim) == 0:
			lift = n
		case isOp(n, "Cast", 1), isOp(n, "Identity", 1):
		default:
			return false
		}
		n = x.only(n.Output[0])
	}
	if (lift == nil) == (len(tensor.Shape.Dim) == 0) {
		return false
	}
	if lift != nil {
		*lift = onnxpb.NodeProto{OpType: "Identity", Name: lift.Name, Input: lift.Input[:1], Output: lift.Output}
	}
	m.Graph.Input[at] = onnxpb.Value(name, onnxpb.TensorProto_DataType(tensor.ElemType), surgeryPrefix+"batch")
	m.Graph.ValueInfo = nil
	return true
}

func attributeInts(n *onnxpb.NodeProto, name string) []int64 {
	for _, a := range n.Attribute {
		if a.Name == name {
			return a.Ints
		}
	}
	return nil
}
