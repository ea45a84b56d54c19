package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx"
)

// unetTensors are the native memory of a lane, for runs of one size.
type unetTensors struct {
	rows   int
	sample *floatTensor // [B, C, h, w]
	hidden *floatTensor // [B, L, H]
	out    *floatTensor // [B, C, h, w]
}

func (u *unet) newTensors(rows int) (*unetTensors, error) {
	b := int64(rows)
	shape := []int64{b, int64(u.channels), int64(u.height), int64(u.width)}
	t := &unetTensors{rows: rows}
	var errs [3]error
	t.sample, errs[0] = newFloatTensor(u.sample.DType, shape...)
	t.hidden, errs[1] = newFloatTensor(u.hidden.DType, b, u.states[0], u.states[1])
	t.out, errs[2] = newFloatTensor(u.out.DType, shape...)
	if err := errors.Join(errs[:]...); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *unetTensors) close() {
	if t == nil {
		return
	}
	for _, f := range []*floatTensor{t.sample, t.hidden, t.out} {
		if f != nil {
			f.tensor.Close()
		}
	}
}

// fitted are the sizes of runs where a session is made for each: sessions cost
// memory and seconds.
var fitted = []int{1, 2, 4, 8, 16, 32, 64}

// fit is the largest of the sizes that n rows fill.
func (u *unet) fit(n int) int {
	best := 1
	for _, size := range fitted {
		if size <= n {
			best = size
		}
	}
	return best
}

// run computes pieces of calls in one run of the U-Net; see batcherConfig.
func (u *unet) run(ctx context.Context, lane int, pieces []piece) error {
	n := 0
	for _, p := range pieces {
		n += p.to - p.from
	}
	session, err := u.session(n)
	if err != nil {
		return err
	}
	t := u.tensors[lane]
	if t == nil || t.rows != n {
		t.close()
		u.tensors[lane] = nil
		if t, err = u.newTensors(n); err != nil {
			return err
		}
		u.tensors[lane] = t
	}
	latent, text := len(t.sample.values)/n, len(t.hidden.values)/n
	times, at := make([]float64, 0, n), 0
	for _, p := range pieces {
		copy(t.sample.values[at*latent:], p.sample[p.from*latent:p.to*latent])
		copy(t.hidden.values[at*text:], p.states[p.from*text:p.to*text])
		times = append(times, slices.Repeat([]float64{p.t}, p.to-p.from)...)
		at += p.to - p.from
	}
	if err := u.infer(ctx, session, t, times); err != nil {
		return err
	}
	at = 0
	for _, p := range pieces {
		copy(p.out[p.from*latent:p.to*latent], t.out.values[at*latent:])
		at += p.to - p.from
	}
	return nil
}

// infer runs a session on what is in t, with the timestep of every row; where
// the graph takes one for all, they are equal.
func (u *unet) infer(ctx context.Context, session *onnx.Session, t *unetTensors, times []float64) error {
	timestep, err := timestepTensor(u.timestep, times)
	if err != nil {
		return fmt.Errorf("%s: %w", u.path, err)
	}
	defer timestep.Close()
	t.sample.push()
	t.hidden.push()
	name := u.timestep.Name
	if !slices.ContainsFunc(session.Inputs(), func(io onnx.IO) bool { return io.Name == name }) {
		name = surgeryPrefix + name
	}
	err = session.RunInto(ctx,
		map[string]*onnx.Tensor{u.sample.Name: t.sample.tensor, u.hidden.Name: t.hidden.tensor, name: timestep},
		map[string]*onnx.Tensor{u.out.Name: t.out.tensor})
	if err != nil {
		return err
	}
	t.out.pull()
	return nil
}

// checkTimestep refuses fractions where the graph takes whole numbers.
func (u *unet) checkTimestep(t float64) error {
	kind := u.timestep.DType
	if (kind == onnx.Int64 || kind == onnx.Int32) && t != math.Trunc(t) {
		return fmt.Errorf("%s: its timesteps are whole numbers, and this schedule visits %v: choose another scheduler, or timestep_spacing leading or trailing", u.path, t)
	}
	return nil
}

// timestepTensor makes the input as the graph wants it: one number, a vector of
// a fixed length that is 1 unless the graph says more, or one per row.
func timestepTensor(io onnx.IO, times []float64) (*onnx.Tensor, error) {
	shape := io.Shape
	switch {
	case len(shape) == 0:
		times = times[:1]
	case ownTimesteps(io):
		shape = []int64{int64(len(times))}
	default:
		n := max(1, shape[0])
		if n > maxConfigFile {
			return nil, fmt.Errorf("timestep of length %d", n)
		}
		shape, times = []int64{n}, slices.Repeat(times[:1], int(n))
	}
	switch kind := io.DType; kind {
	case onnx.Int64:
		return onnx.NewInt64(converted[int64](times), shape...)
	case onnx.Int32:
		return onnx.NewInt32(converted[int32](times), shape...)
	default:
		if len(shape) == 0 && kind != onnx.Float64 {
			kind = onnx.Float32
		}
		return onnx.FromFloats(kind, converted[float32](times), shape...)
	}
}

// perRow stands in a timestep's shape for the number of rows.
const perRow = -2

// ownTimesteps says whether every row has a timestep of its own.
func ownTimesteps(io onnx.IO) bool { return len(io.Shape) == 1 && io.Shape[0] == perRow }

func converted[T int32 | int64 | float32](values []float64) []T {
	out := make([]T, len(values))
	for i, v := range values {
		out[i] = T(v)
	}
	return out
}
