package onnxpb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// MaxModel is the largest model file in bytes: the limit of protobuf. The
// weights of larger models lie in files of their own.
const MaxModel = 1<<31 - 1

const (
	maxDepth = 32      // of subgraphs
	maxNodes = 1 << 20 // of a model, with those of its functions where they are called
)

// Info is what a model says about itself, read without copying its weights.
type Info struct {
	Inputs    []*ValueInfoProto // required inputs, in order
	Outputs   []*ValueInfoProto // in order
	External  []External        // stored tensors whose data lies in other files
	Stored    []Stored          // stored tensors whose data lies in the model
	Operators []Operator        // each once, by domain and type, but those that the model defines itself

	calls map[Operator]*body // of the model's own functions; the empty one is the graph
	fills []fill
	small map[string][][]int64 // stored lists of a few integers by name, such as shapes
}

// External names the place of a tensor's data outside the model file.
type External struct {
	Tensor   string
	Location string // relative to the model's folder, as the model writes it
	Offset   string // decimal bytes, may be empty
	Length   string // decimal bytes, may be empty
	DType    TensorProto_DataType
	Bytes    int64 // what type and shape need
}

// Operator is a kind of node. The default domain is "".
type Operator struct{ Domain, Type string }

// String writes the operator with its domain, where it has one.
func (o Operator) String() string {
	if o.Domain == "" {
		return o.Type
	}
	return o.Domain + ":" + o.Type
}

// body counts what a graph or a function holds.
type body struct {
	nodes int
	calls map[Operator]int
}

// fill is a node that makes a tensor as large as another one says.
type fill struct{ node, op, shape string }

// Inspect reads what a serialised model says about itself, and refuses what no
// honest model holds: tensors whose data is not as long as their type and shape
// say, nodes or subgraphs without end, tensors of absurd size. It looks into
// subgraphs, functions and attributes as well. It allocates in proportion to
// the number of nodes and tensors, not to their data.
func Inspect(model []byte) (*Info, error) {
	info := &Info{calls: map[Operator]*body{}, small: map[string][][]int64{}}
	if err := info.model(model); err != nil {
		return nil, fmt.Errorf("parse ONNX model: %w", err)
	}
	return info, nil
}

func (i *Info) model(model []byte) error {
	if len(model) >= 8 && string(model[4:8]) == "ORTM" {
		return errors.New("it is in the ORT format, want ONNX")
	}
	stored, seen := map[string]bool{}, once{}
	err := fields(model, func(num protowire.Number, v []byte, _ uint64) error {
		switch num {
		case 7:
			if err := seen.field(num, "graph"); err != nil {
				return err
			}
			b := i.body(Operator{})
			return i.graph(v, b, stored, 0)
		case 25:
			return i.function(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !seen[7] {
		return errors.New("it holds no graph")
	}
	i.Inputs = slices.DeleteFunc(i.Inputs, func(in *ValueInfoProto) bool { return stored[in.Name] })
	if err := i.checkFills(); err != nil {
		return err
	}
	return i.checkCalls()
}

func (i *Info) body(name Operator) *body {
	b := i.calls[name]
	if b == nil {
		b = &body{calls: map[Operator]int{}}
		i.calls[name] = b
	}
	return b
}

// function reads an operator that the model defines itself: name 1, nodes 7,
// domain 10.
func (i *Info) function(v []byte) error {
	name := Operator{}
	err := fields(v, func(num protowire.Number, v []byte, _ uint64) error {
		switch num {
		case 1:
			name.Type = string(v)
		case 10:
			name.Domain = domain(string(v))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if name.Type == "" || i.calls[name] != nil {
		return fmt.Errorf("function %q has no name, or that of another one", name)
	}
	b := i.body(name)
	return fields(v, func(num protowire.Number, v []byte, _ uint64) error {
		if num == 7 {
			return i.node(v, b, 0)
		}
		return nil
	})
}

func domain(s string) string {
	if s == "ai.onnx" {
		return ""
	}
	return s
}

// graph reads a graph; that of the model itself has a stored map.
func (i *Info) graph(v []byte, b *body, stored map[string]bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("subgraphs nested deeper than %d", maxDepth)
	}
	return fields(v, func(num protowire.Number, v []byte, _ uint64) error {
		switch num {
		case 1:
			return i.node(v, b, depth)
		case 5:
			name, err := i.tensor(v, "")
			if stored != nil {
				stored[name] = true
			}
			return err
		case 15: // sparse initializer: values 1, indices 2
			return i.sparse(v)
		case 11, 12:
			if stored == nil {
				return nil
			}
			value := &ValueInfoProto{}
			if err := proto.Unmarshal(v, value); err != nil {
				return err
			}
			if num == 11 {
				i.Inputs = append(i.Inputs, value)
			} else {
				i.Outputs = append(i.Outputs, value)
			}
		}
		return nil
	})
}

// node reads a node: inputs 1, outputs 2, name 3, type 4, attributes 5, domain 7.
func (i *Info) node(v []byte, b *body, depth int) error {
	op, name := Operator{}, ""
	var inputs, outputs []string
	var attributes [][]byte
	err := fields(v, func(num protowire.Number, v []byte, _ uint64) error {
		switch num {
		case 1:
			if len(inputs) < 2 {
				inputs = append(inputs, string(v))
			}
		case 2:
			if len(outputs) < 1 {
				outputs = append(outputs, string(v))
			}
		case 3:
			name = string(v)
		case 4:
			op.Type = string(v)
		case 5:
			attributes = append(attributes, v)
		case 7:
			op.Domain = domain(string(v))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if b.nodes++; b.nodes > maxNodes {
		return fmt.Errorf("more than %d nodes", maxNodes)
	}
	b.calls[op]++
	makes := ""
	if op == (Operator{Type: "Constant"}) && len(outputs) == 1 {
		makes = outputs[0]
	}
	switch {
	case op == Operator{Type: "ConstantOfShape"} && len(inputs) > 0:
		i.fills = append(i.fills, fill{name, op.Type, inputs[0]})
	case (op == Operator{Type: "Expand"} || op == Operator{Type: "Tile"}) && len(inputs) > 1:
		i.fills = append(i.fills, fill{name, op.Type, inputs[1]})
	}
	for _, a := range attributes {
		if err := i.attribute(a, b, makes, depth); err != nil {
			if name == "" && len(outputs) == 1 {
				name = outputs[0]
			}
			return fmt.Errorf("node %.200q (%s): %w", name, op, err)
		}
	}
	return nil
}

// attribute reads tensors, graphs and sparse tensors, one of each or lists, and
// ints, which a Constant may hold. makes is the value of a Constant.
func (i *Info) attribute(v []byte, b *body, makes string, depth int) error {
	seen := once{}
	var ints []int64
	err := fields(v, func(num protowire.Number, v []byte, x uint64) error {
		switch num {
		case 5, 6, 22:
			if err := seen.field(num, "value of an attribute"); err != nil {
				return err
			}
		}
		switch num {
		case 5, 10:
			_, err := i.tensor(v, makes)
			return err
		case 6, 11:
			return i.graph(v, b, nil, depth+1)
		case 22, 23:
			return i.sparse(v)
		case 8:
			if makes == "" {
				return nil
			}
			var err error
			ints, err = integers(ints, v, x)
			return err
		}
		return nil
	})
	if len(ints) > 0 {
		i.keep(makes, ints)
	}
	return err
}

func (i *Info) sparse(v []byte) error {
	return fields(v, func(num protowire.Number, v []byte, _ uint64) error {
		if num == 1 || num == 2 {
			_, err := i.tensor(v, "")
			return err
		}
		return nil
	})
}

// once refuses a second message in a field that holds one: parsers would merge
// the two, and see neither of those that were checked.
type once map[protowire.Number]bool

func (o once) field(num protowire.Number, what string) error {
	if o[num] {
		return fmt.Errorf("%s is there twice", what)
	}
	o[num] = true
	return nil
}

// fields calls f for every field of a message: with its bytes where they are
// delimited, else with nil and its number.
func fields(b []byte, f func(num protowire.Number, v []byte, x uint64) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v []byte
		var x uint64
		switch kind {
		case protowire.BytesType:
			if v, n = protowire.ConsumeBytes(b); n >= 0 && v == nil {
				v = []byte{}
			}
		case protowire.VarintType:
			x, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var y uint32
			y, n = protowire.ConsumeFixed32(b)
			x = uint64(y)
		case protowire.Fixed64Type:
			x, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(num, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(num, v, x); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// integers appends a varint, or a packed list of them.
func integers(list []int64, v []byte, x uint64) ([]int64, error) {
	if v == nil {
		return append(list, int64(x)), nil
	}
	for len(v) > 0 {
		x, n := protowire.ConsumeVarint(v)
		if n < 0 {
			return list, protowire.ParseError(n)
		}
		list, v = append(list, int64(x)), v[n:]
	}
	return list, nil
}

func sortOperators(ops []Operator) {
	slices.SortFunc(ops, func(a, b Operator) int { return strings.Compare(a.String(), b.String()) })
}
