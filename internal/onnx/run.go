package onnx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// Run computes the named outputs, all of them when none is named, and
// allocates them; the caller closes them. Cancelling ctx terminates the native
// run between two operators: Run returns ctx.Err(), and only after native code
// has returned.
func (s *Session) Run(ctx context.Context, in map[string]*Tensor, outputs ...string) (map[string]*Tensor, error) {
	for _, name := range outputs {
		if !slices.ContainsFunc(s.outputs, func(io IO) bool { return io.Name == name }) {
			return nil, fmt.Errorf("run ONNX model: no output %q; the model computes %s", name, list(s.outputs))
		}
	}
	inputs, err := s.arrange("input", s.inputs, in)
	if err != nil {
		return nil, fmt.Errorf("run ONNX model: %w", err)
	}
	tensors, values, err := s.allocate(in)
	if err != nil {
		return nil, fmt.Errorf("run ONNX model: %w", err)
	}
	if err := s.run(ctx, inputs, values); err != nil {
		closeAll(tensors)
		return nil, err
	}
	out := make(map[string]*Tensor, len(tensors))
	var errs []error
	for i, io := range s.outputs {
		t := tensors[i]
		if t == nil {
			if t, err = wrap(values[i]); err != nil {
				errs = append(errs, fmt.Errorf("output %q: %w", io.Name, err))
				continue
			}
		}
		if len(outputs) > 0 && !slices.Contains(outputs, io.Name) {
			t.Close()
			continue
		}
		out[io.Name] = t
	}
	if len(errs) > 0 {
		closeAll(slices.Collect(maps.Values(out)))
		return nil, fmt.Errorf("run ONNX model: %w", errors.Join(errs...))
	}
	return out, nil
}

// RunInto computes all outputs into the given tensors, which must have the
// right types and shapes. Inputs and outputs must not share memory. It is
// cancelled as Run is; the outputs are undefined then.
func (s *Session) RunInto(ctx context.Context, in, out map[string]*Tensor) error {
	inputs, errIn := s.arrange("input", s.inputs, in)
	outputs, errOut := s.arrange("output", s.outputs, out)
	if err := errors.Join(errIn, errOut); err != nil {
		return fmt.Errorf("run ONNX model: %w", err)
	}
	return s.run(ctx, inputs, outputs)
}

// run is one native run. When ctx ends it sets the terminate flag, which
// ONNX Runtime looks at between operators, and waits for the run to return
// before anything that the run uses is freed.
func (s *Session) run(ctx context.Context, in, out []ort.Value) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return fmt.Errorf("run ONNX model: %w", err)
	}
	defer options.Destroy()
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		options.Terminate()
	})
	err = s.native.RunWithOptions(in, out, options)
	if !stop() {
		<-terminated
	}
	runtime.KeepAlive(in) // native code knows only their addresses
	runtime.KeepAlive(out)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("run ONNX model: %w", err)
}

// arrange puts named tensors into the model's order and checks them against
// what the model declares; it reports every problem at once.
func (s *Session) arrange(kind string, declared []IO, given map[string]*Tensor) ([]ort.Value, error) {
	values := make([]ort.Value, len(declared))
	var errs []error
	for i, io := range declared {
		t := given[io.Name]
		switch {
		case t == nil:
			errs = append(errs, fmt.Errorf("%s %s is missing", kind, io))
			continue
		case t.value == nil:
			errs = append(errs, fmt.Errorf("%s %q is a closed tensor", kind, io.Name))
		case t.dtype != io.DType && io.DType != Undefined || !fits(io.Shape, t.shape):
			errs = append(errs, fmt.Errorf("%s %q: want %s, got %v%v", kind, io.Name, io, t.dtype, t.shape))
		}
		values[i] = t.value
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(declared, func(io IO) bool { return io.Name == name }) {
			errs = append(errs, fmt.Errorf("no %s %q; the model has %s", kind, name, list(declared)))
		}
	}
	return values, errors.Join(errs...)
}

func fits(declared, actual []int64) bool {
	if declared == nil {
		return true
	}
	return slices.EqualFunc(declared, actual, func(want, got int64) bool { return want < 0 || want == got })
}

// String describes the input or output: name, type and shape, ? where dynamic.
func (io IO) String() string {
	if io.Shape == nil {
		return fmt.Sprintf("%q %v of any shape", io.Name, io.DType)
	}
	dims := make([]string, len(io.Shape))
	for i, d := range io.Shape {
		switch {
		case d >= 0:
			dims[i] = fmt.Sprint(d)
		case i < len(io.symbols) && io.symbols[i] != "":
			dims[i] = io.symbols[i]
		default:
			dims[i] = "?"
		}
	}
	return fmt.Sprintf("%q %v[%s]", io.Name, io.DType, strings.Join(dims, " "))
}

// Symbol returns the name of dimension i where it is dynamic: equal names are
// equal sizes. It is empty where the dimension is fixed or has none.
func (io IO) Symbol(i int) string {
	if i < len(io.symbols) {
		return io.symbols[i]
	}
	return ""
}

func list(declared []IO) string {
	parts := make([]string, len(declared))
	for i, io := range declared {
		parts[i] = io.String()
	}
	return strings.Join(parts, ", ")
}

// allocate makes the outputs that the binding cannot allocate itself: scalars
// and 16-bit floats. The others stay nil and are allocated by the run.
func (s *Session) allocate(in map[string]*Tensor) ([]*Tensor, []ort.Value, error) {
	tensors, values := make([]*Tensor, len(s.outputs)), make([]ort.Value, len(s.outputs))
	for i, io := range s.outputs {
		scalar := io.Shape != nil && len(io.Shape) == 0
		if !scalar && io.DType != Float16 && io.DType != BFloat16 {
			continue
		}
		shape, ok := s.resolve(io, in)
		if !ok {
			closeAll(tensors)
			return nil, nil, fmt.Errorf("output %s: its shape is not known before the run; use RunInto", io)
		}
		t, err := Empty(io.DType, shape...)
		if err != nil {
			closeAll(tensors)
			return nil, nil, fmt.Errorf("output %s: %w", io, err)
		}
		tensors[i], values[i] = t, t.value
	}
	return tensors, values, nil
}

// resolve gives dynamic dimensions of an output the size that a dimension of
// the same name has in the inputs.
func (s *Session) resolve(out IO, in map[string]*Tensor) (shape []int64, ok bool) {
	if out.Shape == nil {
		return nil, false
	}
	shape = slices.Clone(out.Shape)
	for i := range shape {
		for _, io := range s.inputs {
			if shape[i] >= 0 || out.symbols[i] == "" {
				break
			}
			if j := slices.Index(io.symbols, out.symbols[i]); j >= 0 {
				shape[i] = in[io.Name].shape[j]
			}
		}
		if shape[i] < 0 {
			return nil, false
		}
	}
	return shape, true
}

func closeAll(tensors []*Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}
