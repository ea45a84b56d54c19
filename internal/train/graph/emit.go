package graph

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// opset is the version of the standard operators that the nodes are written for.
const opset = 18

// Model is the finished graph as a serialised ONNX model with the given custom
// metadata. It reports the first mistake made while building.
func (b *Builder) Model(name string, metadata map[string]string) ([]byte, error) {
	if b.err != nil {
		return nil, fmt.Errorf("build model %s: %w", name, b.err)
	}
	g := &onnxpb.GraphProto{Name: name, Node: b.nodes, Initializer: b.constants}
	for _, t := range b.inputs {
		g.Input = append(g.Input, b.declare(t))
	}
	for _, s := range b.slots {
		g.Input = append(g.Input, b.declare(&Tensor{name: s.Name, shape: s.Shape}))
	}
	for _, t := range b.outputs {
		g.Output = append(g.Output, b.declare(t))
	}
	m := onnxpb.Model(g, opset)
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: k, Value: metadata[k]})
	}
	raw, err := onnxpb.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("build model %s: %w", name, err)
	}
	return raw, nil
}

// declare describes an input or output; a free batch dimension is called "N".
func (b *Builder) declare(t *Tensor) *onnxpb.ValueInfoProto {
	shape := make([]any, len(t.shape))
	for i, d := range t.shape {
		shape[i] = d
		if d == Dynamic {
			shape[i] = "N"
		}
	}
	return onnxpb.Value(t.name, onnxpb.TensorProto_FLOAT, shape...)
}
