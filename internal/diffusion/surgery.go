package diffusion

import (
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// The inputs that overrideTokens adds to a text encoder.
const (
	maskInput      = "override_mask"      // [B, L] bool
	embeddingInput = "override_embedding" // [B, L, H], of the type of the table's rows
	surgeryPrefix  = "dreamood_"          // of the names of new values
)

// tokenTable is the token-embedding table of a text encoder.
type tokenTable struct {
	rows  []float32 // [V, H]
	dtype onnx.DType
}

// overrideTokens gives every position of a prompt an optional embedding: the
// Gather on the [vocabulary, width] table is followed by
//
//	Where(Unsqueeze(override_mask, -1), override_embedding, gathered)
//
// so that prompts with different overrides share a batch, and a prompt without
// one is computed as before, bit by bit. dir holds the model's external data.
func overrideTokens(m *onnxpb.ModelProto, vocabulary, width int64, dir string) (*tokenTable, error) {
	g := m.Graph
	var gathers []int
	var table *onnxpb.TensorProto
	var dtype onnx.DType
	for i, n := range g.Node {
		if n.OpType != "Gather" || len(n.Input) != 2 || len(n.Output) != 1 || attribute(n, "axis", 0) != 0 {
			continue
		}
		t, kind := stored(g, n.Input[0])
		if t == nil || !slices.Equal(t.Dims, []int64{vocabulary, width}) {
			continue
		}
		if table != nil && table != t {
			return nil, fmt.Errorf("tables %q and %q both look like the [%d, %d] token embeddings", table.Name, t.Name, vocabulary, width)
		}
		table, dtype = t, kind
		gathers = append(gathers, i)
	}
	if table == nil {
		return nil, fmt.Errorf("no Gather reads a stored [%d, %d] table of token embeddings", vocabulary, width)
	}
	for _, in := range g.Input {
		if in.Name == maskInput || in.Name == embeddingInput {
			return nil, fmt.Errorf("the graph has an input %q already", in.Name)
		}
	}
	if err := onnx.LoadExternal(table, dir); err != nil {
		return nil, err
	}
	rows, err := onnxpb.Floats(table)
	if err != nil {
		return nil, err
	}
	kind := onnxpb.TensorProto_DataType(dtype)
	g.Input = append(g.Input,
		onnxpb.Value(maskInput, onnxpb.TensorProto_BOOL, surgeryPrefix+"batch", surgeryPrefix+"length"),
		onnxpb.Value(embeddingInput, kind, surgeryPrefix+"batch", surgeryPrefix+"length", width))
	mask := surgeryPrefix + "mask"
	for _, i := range slices.Backward(gathers) {
		n := g.Node[i]
		out := n.Output[0]
		n.Output[0] = surgeryPrefix + out
		g.Node = slices.Insert(g.Node, i+1,
			onnxpb.Node("Where", []string{mask, embeddingInput, n.Output[0]}, []string{out}))
	}
	g.Node = slices.Insert(g.Node, 0, unsqueezeLast(m, maskInput, mask))
	return &tokenTable{rows: rows, dtype: dtype}, nil
}

// unsqueezeLast adds a last axis of size 1. Since opset 13 the axes of
// Unsqueeze are an input, before they are an attribute.
func unsqueezeLast(m *onnxpb.ModelProto, in, out string) *onnxpb.NodeProto {
	for _, opset := range m.OpsetImport {
		if (opset.Domain == "" || opset.Domain == "ai.onnx") && opset.Version < 13 {
			return onnxpb.Node("Unsqueeze", []string{in}, []string{out}, onnxpb.AttrInts("axes", 2))
		}
	}
	axes := surgeryPrefix + "last_axis"
	m.Graph.Initializer = append(m.Graph.Initializer, onnxpb.Int64s(axes, []int64{-1}, 1))
	return onnxpb.Node("Unsqueeze", []string{in, axes}, []string{out})
}

// stored follows a value through Cast and Identity to the tensor that the
// model stores, and gives the type in which the value is computed; nil where
// there is none.
func stored(g *onnxpb.GraphProto, name string) (*onnxpb.TensorProto, onnx.DType) {
	cast := onnx.Undefined
	for range len(g.Node) + 1 { // a cycle ends the search
		if t := g.FindInitializer(name); t != nil {
			if cast == onnx.Undefined {
				cast = onnx.DType(t.DataType)
			}
			return t, cast
		}
		n := producer(g, name)
		switch {
		case n == nil:
			return nil, onnx.Undefined
		case n.OpType == "Constant":
			for _, a := range n.Attribute {
				if a.Name == "value" && a.T != nil {
					if cast == onnx.Undefined {
						cast = onnx.DType(a.T.DataType)
					}
					return a.T, cast
				}
			}
			return nil, onnx.Undefined
		case n.OpType == "Cast" && len(n.Input) == 1:
			if cast == onnx.Undefined {
				cast = onnx.DType(attribute(n, "to", 0))
			}
			name = n.Input[0]
		case n.OpType == "Identity" && len(n.Input) == 1:
			name = n.Input[0]
		default:
			return nil, onnx.Undefined
		}
	}
	return nil, onnx.Undefined
}

func producer(g *onnxpb.GraphProto, value string) *onnxpb.NodeProto {
	for _, n := range g.Node {
		if slices.Contains(n.Output, value) {
			return n
		}
	}
	return nil
}

func attribute(n *onnxpb.NodeProto, name string, absent int64) int64 {
	for _, a := range n.Attribute {
		if a.Name == name {
			return a.GetI()
		}
	}
	return absent
}

// widenScalar replaces a 16-bit floating-point input, which the binding cannot
// feed as a scalar, by a float32 input that is cast.
func widenScalar(m *onnxpb.ModelProto, name string) error {
	for _, in := range m.Graph.Input {
		if in.Name != name {
			continue
		}
		tensor := in.GetType().GetTensorType()
		to := tensor.GetElemType()
		in.Name = surgeryPrefix + name
		tensor.ElemType = int32(onnxpb.TensorProto_FLOAT)
		m.Graph.Node = slices.Insert(m.Graph.Node, 0,
			onnxpb.Node("Cast", []string{in.Name}, []string{name}, onnxpb.AttrInt("to", int64(to))))
		return nil
	}
	return fmt.Errorf("no input %q", name)
}
