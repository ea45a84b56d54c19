package onnxpb

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Info is what a model says about itself, read without copying its weights.
type Info struct {
	Inputs   []*ValueInfoProto // required inputs, in order
	Outputs  []*ValueInfoProto // in order
	External []External        // stored tensors whose data lies in other files
}

// External names the place of a tensor's data outside the model file.
type External struct {
	Tensor   string
	Location string // relative to the model's folder, as the model writes it
	Offset   string // decimal bytes, may be empty
	Length   string // decimal bytes, may be empty
}

// Inspect reads the inputs, the outputs and the external data of a serialised
// model. It looks into subgraphs, functions and tensor attributes as well.
func Inspect(model []byte) (*Info, error) {
	info, stored := &Info{}, map[string]bool{}
	hasGraph := false
	err := fields(model, func(num protowire.Number, v []byte) error {
		switch num {
		case 7: // graph
			hasGraph = true
			return info.graph(v, true, stored, 0)
		case 25: // functions: their nodes are field 7
			return fields(v, func(num protowire.Number, v []byte) error {
				if num == 7 {
					return info.node(v, 0)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parse ONNX model: %w", err)
	}
	if !hasGraph {
		return nil, errors.New("parse ONNX model: it holds no graph")
	}
	required := info.Inputs[:0]
	for _, in := range info.Inputs {
		if !stored[in.Name] {
			required = append(required, in)
		}
	}
	info.Inputs = required
	return info, nil
}

const maxDepth = 32 // of subgraphs

func (i *Info) graph(b []byte, top bool, stored map[string]bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("subgraphs nested deeper than %d", maxDepth)
	}
	return fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			return i.node(v, depth)
		case 5:
			name, err := i.tensor(v)
			if top {
				stored[name] = true
			}
			return err
		case 15: // sparse initializer: values 1, indices 2
			return i.sparse(v)
		case 11, 12:
			if !top {
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

func (i *Info) node(b []byte, depth int) error {
	return fields(b, func(num protowire.Number, v []byte) error {
		if num != 5 { // attribute
			return nil
		}
		return fields(v, func(num protowire.Number, v []byte) error {
			switch num {
			case 5, 10:
				_, err := i.tensor(v)
				return err
			case 6, 11:
				return i.graph(v, false, nil, depth+1)
			case 22, 23:
				return i.sparse(v)
			}
			return nil
		})
	})
}

func (i *Info) sparse(b []byte) error {
	return fields(b, func(num protowire.Number, v []byte) error {
		if num == 1 || num == 2 {
			_, err := i.tensor(v)
			return err
		}
		return nil
	})
}

// tensor reads the name of a stored tensor and notes its external data.
func (i *Info) tensor(b []byte) (name string, err error) {
	ext := External{}
	found := false
	err = fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 8:
			name = string(v)
		case 13:
			entry := &StringStringEntryProto{}
			if err := proto.Unmarshal(v, entry); err != nil {
				return err
			}
			found = true
			switch entry.Key {
			case "location":
				ext.Location = entry.Value
			case "offset":
				ext.Offset = strings.TrimSpace(entry.Value)
			case "length":
				ext.Length = strings.TrimSpace(entry.Value)
			}
		}
		return nil
	})
	if found {
		ext.Tensor = name
		i.External = append(i.External, ext)
	}
	return name, err
}

// fields calls f for every length-delimited field of a message.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
