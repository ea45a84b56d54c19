package onnx

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// IO describes an input or an output of a model.
type IO struct {
	Name  string
	DType DType
	// Shape holds the dimensions, -1 where they are dynamic. An empty shape is
	// a scalar, a nil one is unknown.
	Shape []int64

	symbols []string // names of dynamic dimensions, "" where they have none
}

// Session is a loaded model. It is safe for concurrent use.
type Session struct {
	native   *ort.DynamicAdvancedSession
	inputs   []IO
	outputs  []IO
	metadata map[string]string

	mu     sync.RWMutex // runs hold it for reading, Close for writing
	closed bool
}

// NewSession loads a serialised model. External data is read from
// Config.ExternalData, and only from there.
func NewSession(model []byte, cfg Config) (*Session, error) {
	s, err := newSession(model, "", cfg)
	if err != nil {
		return nil, fmt.Errorf("load ONNX model: %w", err)
	}
	return s, nil
}

// NewSessionFile loads the model at path. External data is read from the
// model's own folder, and only from there.
func NewSessionFile(path string, cfg Config) (*Session, error) {
	model, err := ReadModel(path)
	if err == nil {
		var s *Session
		cfg.ExternalData = filepath.Dir(path)
		if s, err = newSession(model, path, cfg); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("load ONNX model %s: %w", path, err)
}

func newSession(model []byte, path string, cfg Config) (*Session, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := Open(""); err != nil {
		return nil, err
	}
	info, err := inspect(model, cfg.ExternalData)
	if err != nil {
		return nil, err
	}
	if len(info.External) == 0 {
		cfg.ExternalData = ""
	}
	s := &Session{}
	if s.inputs, err = describe("input", info.Inputs); err != nil {
		return nil, err
	}
	if s.outputs, err = describe("output", info.Outputs); err != nil {
		return nil, err
	}
	if len(s.inputs) == 0 || len(s.outputs) == 0 {
		return nil, fmt.Errorf("the model has %d inputs and %d outputs, want at least one of each", len(s.inputs), len(s.outputs))
	}
	err = keepSignalStack(func() error { return s.load(model, path, cfg) })
	if err != nil {
		return nil, explain(err, info, cfg.Provider)
	}
	if s.metadata, err = readMetadata(s.native); err != nil {
		s.native.Destroy()
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return s, nil
}

func (s *Session) load(model []byte, path string, cfg Config) error {
	options, err := sessionOptions(cfg)
	if err != nil {
		return err
	}
	defer options.Destroy()
	if path != "" {
		s.native, err = ort.NewDynamicAdvancedSession(path, names(s.inputs), names(s.outputs), options)
	} else {
		s.native, err = ort.NewDynamicAdvancedSessionWithONNXData(model, names(s.inputs), names(s.outputs), options)
	}
	return err
}

// describe converts the declared inputs or outputs; only tensors are supported.
func describe(kind string, values []*onnxpb.ValueInfoProto) ([]IO, error) {
	var out []IO
	for _, v := range values {
		tensor := v.GetType().GetTensorType()
		if tensor == nil {
			return nil, fmt.Errorf("%s %q is not a tensor", kind, v.Name)
		}
		io := IO{Name: v.Name, DType: DType(tensor.ElemType)}
		if tensor.Shape != nil {
			io.Shape = []int64{}
		}
		for _, dim := range tensor.GetShape().GetDim() {
			size, symbol := int64(-1), dim.GetDimParam()
			if _, static := dim.Value.(*onnxpb.TensorShapeProto_Dimension_DimValue); static {
				size = dim.GetDimValue()
			}
			io.Shape = append(io.Shape, size)
			io.symbols = append(io.symbols, symbol)
		}
		out = append(out, io)
	}
	return out, nil
}

func names(list []IO) []string {
	out := make([]string, len(list))
	for i, io := range list {
		out[i] = io.Name
	}
	return out
}

func readMetadata(native *ort.DynamicAdvancedSession) (map[string]string, error) {
	meta, err := native.GetModelMetadata()
	if err != nil {
		return nil, err
	}
	defer meta.Destroy()
	keys, err := meta.GetCustomMetadataMapKeys()
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(keys))
	for _, key := range keys {
		value, _, err := meta.LookupCustomMetadataMap(key)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, nil
}

// Inputs describes what Run wants, in the model's order.
func (s *Session) Inputs() []IO { return cloneIO(s.inputs) }

// Outputs describes what Run computes, in the model's order.
func (s *Session) Outputs() []IO { return cloneIO(s.outputs) }

func cloneIO(list []IO) []IO {
	out := slices.Clone(list)
	for i := range out {
		out[i].Shape = slices.Clone(out[i].Shape)
	}
	return out
}

// Metadata returns the model's custom metadata.
func (s *Session) Metadata() map[string]string { return maps.Clone(s.metadata) }

// ErrClosed is returned by the runs of a closed session.
var ErrClosed = errors.New("onnx: session is closed")

// Close waits for the runs under way and frees the model. Closing twice does
// nothing.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return keepSignalStack(s.native.Destroy)
}

// Describe returns the inputs and outputs of a serialised model without
// loading it.
func Describe(model []byte) (inputs, outputs []IO, err error) {
	info, err := onnxpb.Inspect(model)
	if err != nil {
		return nil, nil, err
	}
	if inputs, err = describe("input", info.Inputs); err != nil {
		return nil, nil, err
	}
	outputs, err = describe("output", info.Outputs)
	return inputs, outputs, err
}
