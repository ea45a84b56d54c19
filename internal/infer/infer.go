// Package infer runs exported classifiers and encoders on pictures, in batches.
package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/onnx"
)

// Input is the input of every model that the mesh trains: [N, 3, S, S] float32 in [0, 1].
const Input = "image"

// batch is how many pictures run at once.
const batch = 128

// Model is an ONNX model that takes pictures. It is safe for concurrent use.
type Model struct {
	session *onnx.Session
	size    int
}

// Open loads a model and checks that it takes pictures.
func Open(model []byte, cfg onnx.Config) (*Model, error) {
	s, err := onnx.NewSession(model, cfg)
	if err != nil {
		return nil, err
	}
	in := s.Inputs()
	if len(in) != 1 || in[0].Name != Input || in[0].DType != onnx.Float32 || len(in[0].Shape) != 4 ||
		in[0].Shape[1] != 3 || in[0].Shape[2] != in[0].Shape[3] || in[0].Shape[2] < 1 {
		return nil, errors.Join(fmt.Errorf("the model's inputs are %v, want one float32 %q [N, 3, S, S]", in, Input), s.Close())
	}
	return &Model{session: s, size: int(in[0].Shape[2])}, nil
}

// Has says whether the model has an output of that name.
func (m *Model) Has(output string) bool {
	return slices.ContainsFunc(m.session.Outputs(), func(o onnx.IO) bool { return o.Name == output })
}

// Metadata is what the model says of itself.
func (m *Model) Metadata() map[string]string { return m.session.Metadata() }

// Size is the side of the pictures, in pixels.
func (m *Model) Size() int { return m.size }

// Close frees the model.
func (m *Model) Close() error { return m.session.Close() }

// Run computes outputs for images [N, 3, S, S] in [0, 1]; each is returned row by row, [N · width].
func (m *Model) Run(ctx context.Context, images []float32, outputs ...string) (map[string][]float32, error) {
	each := 3 * m.size * m.size
	if len(images) == 0 || len(images)%each != 0 {
		return nil, fmt.Errorf("%d picture values are not a multiple of 3·%d·%d", len(images), m.size, m.size)
	}
	result := map[string][]float32{}
	for from := 0; from < len(images); from += batch * each {
		part := images[from:min(from+batch*each, len(images))]
		if err := m.run(ctx, part, len(part)/each, result, outputs); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (m *Model) run(ctx context.Context, images []float32, n int, into map[string][]float32, outputs []string) error {
	in, err := onnx.NewFloat32(images, int64(n), 3, int64(m.size), int64(m.size))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := m.session.Run(ctx, map[string]*onnx.Tensor{Input: in}, outputs...)
	if err != nil {
		return err
	}
	for name, t := range out {
		into[name] = append(into[name], t.Float32()...)
		err = errors.Join(err, t.Close())
	}
	return err
}

// Dataset computes outputs for all pictures of ds, in order. report, when not nil, is told the pictures done.
func (m *Model) Dataset(ctx context.Context, ds *dataset.Dataset, report func(done int), outputs ...string) (map[string][]float32, error) {
	if ds.Size != m.size {
		return nil, fmt.Errorf("dataset %s has pictures of %d pixels, the model takes %d", ds.Name, ds.Size, m.size)
	}
	result := map[string][]float32{}
	buffer := make([]float32, batch*3*m.size*m.size)
	for from := 0; from < ds.Len(); from += batch {
		at := make([]int, min(batch, ds.Len()-from))
		for i := range at {
			at[i] = from + i
		}
		part := buffer[:len(at)*3*m.size*m.size]
		ds.Float32(part, at...)
		if err := m.run(ctx, part, len(at), result, outputs); err != nil {
			return nil, err
		}
		if report != nil {
			report(from + len(at))
		}
	}
	return result, nil
}
