package onnxpb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Stored is a tensor whose data lies in the model. Raw is a view of it, in
// little-endian order; nil where the data is not stored so.
type Stored struct {
	Tensor string
	DType  TensorProto_DataType
	Raw    []byte
}

// tensorFields is a TensorProto as it is read: sizes, not copies.
type tensorFields struct {
	name     string
	dims     []int64
	dtype    TensorProto_DataType
	raw      []byte
	typed    int64    // elements in the lists of numbers and strings
	ints     []int64  // of int64_data, while they are few
	numbers  []byte   // float_data or double_data, packed
	own      bool     // numbers is a copy
	halves   []uint16 // int32_data of a 16-bit type
	ext      External
	outside  bool // data_location
	external bool // an entry of external_data
}

// tensor reads a stored tensor and holds its data against its type and shape. A
// Constant gives the name of its output.
func (i *Info) tensor(v []byte, as string) (name string, err error) {
	t := tensorFields{}
	err = fields(v, func(num protowire.Number, _ []byte, x uint64) error {
		if num == 2 {
			t.dtype = TensorProto_DataType(x)
		}
		return nil
	})
	if err == nil {
		err = fields(v, t.field)
	}
	if err != nil {
		return t.name, fmt.Errorf("tensor %.200q: %w", t.name, err)
	}
	if err := i.add(&t, as); err != nil {
		return t.name, fmt.Errorf("tensor %.200q: %w", t.name, err)
	}
	return t.name, nil
}

const fewInts = 16

func (t *tensorFields) field(num protowire.Number, v []byte, x uint64) (err error) {
	switch num {
	case 1:
		if t.dims, err = integers(t.dims, v, x); err == nil && len(t.dims) > 64 {
			err = errors.New("more than 64 dimensions")
		}
	case 4: // float_data
		if v == nil {
			v = binary.LittleEndian.AppendUint32(nil, uint32(x))
		}
		t.join(v)
		t.typed += int64(len(v) / 4)
	case 10: // double_data
		if v == nil {
			v = binary.LittleEndian.AppendUint64(nil, x)
		}
		t.join(v)
		t.typed += int64(len(v) / 8)
	case 5, 7, 11: // int32_data, int64_data, uint64_data
		return t.list(num, v, x)
	case 6:
		t.typed++
	case 8:
		t.name = string(v)
	case 9:
		t.raw = v
	case 13:
		return t.entry(v)
	case 14:
		t.outside = x == uint64(TensorProto_EXTERNAL)
	}
	return err
}

// join appends numbers. The first part, which is nearly always all, is not
// copied.
func (t *tensorFields) join(v []byte) {
	if t.numbers == nil {
		t.numbers = v
		return
	}
	if !t.own {
		t.numbers, t.own = bytes.Clone(t.numbers), true
	}
	t.numbers = append(t.numbers, v...)
}

func (t *tensorFields) list(num protowire.Number, v []byte, x uint64) error {
	one := func(x uint64) {
		t.typed++
		switch {
		case num == 7 && len(t.ints) <= fewInts:
			t.ints = append(t.ints, int64(x))
		case num == 5 && (t.dtype == TensorProto_FLOAT16 || t.dtype == TensorProto_BFLOAT16):
			t.halves = append(t.halves, uint16(x))
		}
	}
	if v == nil {
		one(x)
		return nil
	}
	for len(v) > 0 {
		x, n := protowire.ConsumeVarint(v)
		if n < 0 {
			return protowire.ParseError(n)
		}
		one(x)
		v = v[n:]
	}
	return nil
}

func (t *tensorFields) entry(v []byte) error {
	entry := &StringStringEntryProto{}
	if err := proto.Unmarshal(v, entry); err != nil {
		return err
	}
	t.external = true
	for key, to := range map[string]*string{"location": &t.ext.Location, "offset": &t.ext.Offset, "length": &t.ext.Length} {
		if entry.Key == key {
			if *to != "" {
				return fmt.Errorf("external_data has %s twice", key)
			}
			*to = entry.Value
			if key != "location" {
				*to = strings.TrimSpace(entry.Value)
			}
		}
	}
	return nil
}

// bits of an element; strings and unknown types have 0.
func bits(t TensorProto_DataType) int64 {
	switch t {
	case 2, 3, 9, 17, 18, 19, 20, 24: // 8-bit integers, bool, 8-bit floats
		return 8
	case 4, 5, TensorProto_FLOAT16, TensorProto_BFLOAT16:
		return 16
	case TensorProto_FLOAT, 6, 12:
		return 32
	case 7, 11, 13, 14:
		return 64
	case 15:
		return 128
	case 21, 22, 23: // 4-bit integers and float
		return 4
	case 25, 26: // 2-bit integers
		return 2
	}
	return 0
}

const stringType TensorProto_DataType = 8

// add takes up a tensor that is known to nodes as its name or as another one.
func (i *Info) add(t *tensorFields, as string) error {
	n, err := Elements(t.dims)
	if err != nil {
		return err
	}
	size := bits(t.dtype)
	if size == 0 && t.dtype != stringType {
		return fmt.Errorf("elements of the unknown type %d", t.dtype)
	}
	want := (n*size + 7) / 8
	if t.external || t.outside {
		if !t.external || t.ext.Location == "" {
			return errors.New("its data lies outside the model, but external_data names no location")
		}
		if size == 0 {
			return errors.New("strings with external data are not supported")
		}
		t.ext.Tensor, t.ext.DType, t.ext.Bytes = t.name, t.dtype, want
		i.External = append(i.External, t.ext)
		return nil
	}
	if err := t.check(n, want); err != nil {
		return err
	}
	stored := Stored{Tensor: t.name, DType: t.dtype, Raw: t.raw}
	switch {
	case len(t.raw) > 0:
	case t.dtype == TensorProto_FLOAT || t.dtype == TensorProto_DOUBLE:
		stored.Raw = t.numbers
	case len(t.halves) > 0:
		for _, h := range t.halves {
			stored.Raw = binary.LittleEndian.AppendUint16(stored.Raw, h)
		}
	}
	i.Stored = append(i.Stored, stored)
	if t.dtype == TensorProto_INT64 && n > 0 && n <= fewInts {
		for k := 0; k < len(t.raw); k += 8 {
			t.ints = append(t.ints, int64(binary.LittleEndian.Uint64(t.raw[k:])))
		}
		if as == "" {
			as = t.name
		}
		i.keep(as, t.ints)
	}
	return nil
}

// check compares what is stored with what n elements of want bytes need.
func (t *tensorFields) check(n, want int64) error {
	if t.dtype == stringType || len(t.raw) == 0 && want > 0 {
		entries := n
		switch {
		case t.dtype == 14 || t.dtype == 15: // complex: real and imaginary part
			entries = 2 * n
		case bits(t.dtype) < 8 && t.dtype != stringType: // several in a byte
			entries = want
		}
		if t.typed != entries {
			return fmt.Errorf("shape %v of %v needs %d elements, %d are stored", t.dims, t.dtype, entries, t.typed)
		}
		return nil
	}
	if int64(len(t.raw)) != want {
		return fmt.Errorf("shape %v of %v needs %d bytes, %d are stored", t.dims, t.dtype, want, len(t.raw))
	}
	return nil
}

func (i *Info) keep(name string, ints []int64) {
	if name != "" {
		i.small[name] = append(i.small[name], ints)
	}
}

// maxFill bounds the elements of a tensor that a node fills: far more than any
// mask or grid of a picture.
const maxFill = 1 << 28

// checkFills refuses nodes that make absurd tensors out of a stored shape.
// Shapes that are computed cannot be seen here.
func (i *Info) checkFills() error {
	for _, f := range i.fills {
		for _, dims := range i.small[f.shape] {
			n := int64(1)
			for _, d := range dims {
				if d > 1 {
					if n > maxFill/d {
						return fmt.Errorf("node %.200q (%s) makes a tensor of shape %v, at most %d elements are allowed", f.node, f.op, dims, maxFill)
					}
					n *= d
				}
			}
		}
	}
	return nil
}

// checkCalls counts the nodes that the graph has when the model's functions are
// put in place of their calls, and collects all other operators.
func (i *Info) checkCalls() error {
	const underWay = -1
	total, others := map[Operator]int{}, map[Operator]bool{}
	var count func(name Operator, depth int) (int, error)
	count = func(name Operator, depth int) (int, error) {
		if depth > maxDepth {
			return 0, fmt.Errorf("functions that call each other deeper than %d", maxDepth)
		}
		b := i.calls[name]
		switch n := total[name]; {
		case n == underWay:
			return 0, fmt.Errorf("function %q calls itself", name)
		case n > 0:
			return n, nil
		}
		total[name] = underWay
		sum := 1
		for op, times := range b.calls {
			inner := 1
			if i.calls[op] == nil || op == (Operator{}) {
				others[op] = true
			} else {
				var err error
				if inner, err = count(op, depth+1); err != nil {
					return 0, err
				}
			}
			if times > (math.MaxInt32-sum)/inner {
				return 0, fmt.Errorf("more than %d nodes in the functions that are called", maxNodes)
			}
			sum += times * inner
		}
		if sum > maxNodes+1 {
			return 0, fmt.Errorf("more than %d nodes, with those of the functions that are called", maxNodes)
		}
		total[name] = sum
		return sum, nil
	}
	for name := range i.calls {
		if _, err := count(name, 0); err != nil {
			return err
		}
	}
	for op := range others {
		i.Operators = append(i.Operators, op)
	}
	sortOperators(i.Operators)
	return nil
}
