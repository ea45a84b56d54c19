package method

import (
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// emitter appends nodes to a graph; values and constants are named score/1, score/2, …
type emitter struct {
	graph *onnxpb.GraphProto
	count int
}

func (g *emitter) fresh() string {
	g.count++
	return fmt.Sprintf("score/%d", g.count)
}

// op appends a node with one output.
func (g *emitter) op(kind string, in []string, attrs ...*onnxpb.AttributeProto) string {
	out := g.fresh()
	g.graph.Node = append(g.graph.Node, onnxpb.Node(kind, in, []string{out}, attrs...))
	return out
}

func (g *emitter) add(a, b string) string { return g.op("Add", []string{a, b}) }
func (g *emitter) sub(a, b string) string { return g.op("Sub", []string{a, b}) }
func (g *emitter) mul(a, b string) string { return g.op("Mul", []string{a, b}) }
func (g *emitter) div(a, b string) string { return g.op("Div", []string{a, b}) }
func (g *emitter) neg(a string) string    { return g.op("Neg", []string{a}) }
func (g *emitter) exp(a string) string    { return g.op("Exp", []string{a}) }
func (g *emitter) log(a string) string    { return g.op("Log", []string{a}) }
func (g *emitter) sqrt(a string) string   { return g.op("Sqrt", []string{a}) }

// floats stores a constant.
func (g *emitter) floats(data []float32, dims ...int) string {
	name, shape := g.fresh(), make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	g.graph.Initializer = append(g.graph.Initializer, onnxpb.Float32s(name, data, shape...))
	return name
}

// doubles stores a constant in float64.
func (g *emitter) doubles(data []float64, dims ...int) string {
	name, shape := g.fresh(), make([]int64, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	g.graph.Initializer = append(g.graph.Initializer, onnxpb.Float64s(name, data, shape...))
	return name
}

// to converts a value to another type of number.
func (g *emitter) to(x string, dtype onnxpb.TensorProto_DataType) string {
	return g.op("Cast", []string{x}, onnxpb.AttrInt("to", int64(dtype)))
}

func (g *emitter) scalar(v float64) string { return g.floats([]float32{float32(v)}, 1) }

func (g *emitter) ints(v ...int64) string {
	name := g.fresh()
	g.graph.Initializer = append(g.graph.Initializer, onnxpb.Int64s(name, v, int64(len(v))))
	return name
}

// reduce applies ReduceSum, ReduceMax, … over the last axis; the axis stays, with size 1.
func (g *emitter) reduce(kind, x string) string {
	return g.op(kind, []string{x, g.ints(-1)}, onnxpb.AttrInt("keepdims", 1))
}

// product is x·wᵀ for x [N, I] and w [O, I].
func (g *emitter) product(x, w string) string {
	return g.op("Gemm", []string{x, w}, onnxpb.AttrInt("transB", 1))
}

// layer is the last layer applied to x [N, D]: [N, C].
func (g *emitter) layer(x string, in inputs) string {
	return g.op("Gemm", []string{x, in.weight, in.bias}, onnxpb.AttrInt("transB", 1))
}

// largest are the k largest values of each row, the largest first: [N, k].
func (g *emitter) largest(x string, k int) string {
	values, places := g.fresh(), g.fresh()
	g.graph.Node = append(g.graph.Node, onnxpb.Node("TopK", []string{x, g.ints(int64(k))}, []string{values, places}, onnxpb.AttrInt("axis", -1)))
	return values
}

// columns are [from, to) of the columns; to may lie beyond the end.
func (g *emitter) columns(x string, from, to int64) string {
	return g.op("Slice", []string{x, g.ints(from), g.ints(to), g.ints(1)})
}

// toEnd is a column beyond every end.
const toEnd = math.MaxInt32

// logSumExp is log Σ exp of each row, [N, 1]; large values do not overflow.
func (g *emitter) logSumExp(x string) string {
	top := g.reduce("ReduceMax", x)
	return g.add(top, g.log(g.reduce("ReduceSum", g.exp(g.sub(x, top)))))
}

// length is the Euclidean norm of each row, [N, 1], at least 1e-12 so that one may divide by it.
func (g *emitter) length(x string) string {
	return g.op("Max", []string{g.sqrt(g.reduce("ReduceSum", g.mul(x, x))), g.scalar(1e-12)})
}

// output makes a value of N numbers an output of the model.
func (g *emitter) output(name, value string) {
	g.graph.Node = append(g.graph.Node, onnxpb.Node("Reshape", []string{value, g.ints(-1)}, []string{name}))
	g.graph.Output = append(g.graph.Output, onnxpb.Value(name, onnxpb.TensorProto_FLOAT, "N"))
}
