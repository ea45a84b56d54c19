package diffusion

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
	"github.com/dreamood/dreamood/internal/philox"
)

// rewrites are the changes that a U-Net's graph is loaded with.
type rewrites struct {
	timestep string // name of the input, where one of the next three is set
	half     bool   // a 16-bit scalar timestep is fed as float32
	widened  bool   // a whole timestep is fed as float32
	mixed    bool   // a timestep per row
	fused    bool   // attention is MultiHeadAttention
}

// apply makes the changes.
func (r rewrites) apply(m *onnxpb.ModelProto) error {
	if r.widened && !widenTimestep(m, r.timestep) || r.mixed && !mixTimesteps(m, r.timestep) {
		return fmt.Errorf("the graph has changed since it was opened")
	}
	if r.half {
		if err := widenScalar(m, r.timestep); err != nil {
			return err
		}
	}
	if r.fused && fuseAttention(m) == 0 {
		return fmt.Errorf("the graph has changed since it was opened")
	}
	return nil
}

// prepare chooses the rewrites and makes the session, where there is one for
// all batch sizes. What makes the U-Net fast or shared, and not only possible,
// is left out when untouched is asked for, and when the outputs are not those
// of the untouched graph.
func (u *unet) prepare(untouched bool) error {
	model, err := readModel(u.path)
	if err != nil {
		return fmt.Errorf("%s: %w", u.path, err)
	}
	own := u.timestep
	kind := own.DType
	half := len(own.Shape) == 0 && (kind == onnx.Float16 || kind == onnx.BFloat16)
	base := rewrites{timestep: own.Name, half: half}
	if kind == onnx.Int64 || kind == onnx.Int32 {
		base.widened = widenTimestep(model, own.Name)
	}
	plainIO := own
	if name := own.Symbol(0); len(own.Shape) == 1 && own.Shape[0] < 0 && name != "" && name == u.sample.Symbol(0) {
		plainIO.Shape = []int64{perRow}
	}
	if base.widened {
		plainIO.DType = onnx.Float32
	}
	if !base.half && !base.widened {
		base = rewrites{}
	}
	u.rewrites, u.timestep = base, plainIO
	if untouched {
		return u.warm()
	}
	better := rewrites{timestep: own.Name, widened: base.widened, mixed: !ownTimesteps(plainIO) && mixTimesteps(model, own.Name)}
	better.half = base.half && !better.mixed
	better.fused = (u.onnx.Provider == "" || u.onnx.Provider == "cpu") && fuseAttention(model) > 0
	alone := better
	alone.fused = false
	for _, r := range []rewrites{better, alone} {
		if !r.mixed && !r.fused {
			break
		}
		u.rewrites, u.timestep = r, plainIO
		if r.mixed {
			u.timestep.Shape = []int64{perRow}
		}
		if u.refused = u.compare(base, plainIO); u.refused == nil {
			return nil
		}
		u.closeSessions()
	}
	u.rewrites, u.timestep = base, plainIO
	return u.warm()
}

func (u *unet) warm() error {
	if u.fixed() {
		return nil
	}
	_, err := u.session(0)
	return err
}

func (u *unet) closeSessions() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for size, s := range u.sessions {
		s.Close()
		delete(u.sessions, size)
	}
}

// rewriteTolerance bounds how far the outputs of a rewritten graph may be from
// those of the graph as it was stored, as a share of the largest: sums in
// another order give a few millionths.
const rewriteTolerance = 1e-4

// compare runs two rows of noise at two timesteps through both graphs on the
// CPU provider, where rounding is all that may differ.
func (u *unet) compare(base rewrites, plainIO onnx.IO) error {
	const rows = 2
	plain := &unet{
		path: u.path, onnx: onnx.Config{Threads: u.onnx.Threads}, channels: u.channels, height: u.height, width: u.width, states: u.states,
		sample: u.sample, timestep: plainIO, hidden: u.hidden, out: u.out, rewrites: base, sessions: map[int]*onnx.Session{},
	}
	changed := u
	if u.fixed() || u.onnx.Provider == "cuda" {
		changed = &unet{
			path: u.path, onnx: plain.onnx, channels: u.channels, height: u.height, width: u.width, states: u.states,
			sample: u.sample, timestep: u.timestep, hidden: u.hidden, out: u.out, rewrites: u.rewrites, sessions: map[int]*onnx.Session{},
		}
		defer changed.closeSessions()
	}
	defer plain.closeSessions()
	t, err := u.newTensors(rows)
	if err != nil {
		return err
	}
	defer t.close()
	philox.Normals(t.sample.values, philox.Key{Purpose: "diffusion.compare", Index: 0})
	philox.Normals(t.hidden.values, philox.Key{Purpose: "diffusion.compare", Index: 1})
	at := []float64{901, 21}
	var want [rows][]float32
	for i := range rows {
		if want[i], err = plain.once(t, []float64{at[i], at[i]}); err != nil {
			return err
		}
	}
	if !u.rewrites.mixed {
		at[1] = at[0]
		want[1] = want[0]
	}
	got, err := changed.once(t, at)
	if err != nil {
		return err
	}
	n, worst, largest := len(got)/rows, 0.0, 0.0
	for i := range got {
		w := want[i/n][i]
		largest = max(largest, math.Abs(float64(w)))
		worst = max(worst, math.Abs(float64(w-got[i])))
	}
	if !(worst <= rewriteTolerance*largest) {
		return fmt.Errorf("%s: rewritten, its outputs differ by %.2g of up to %.2g", u.path, worst, largest)
	}
	return nil
}

// once is a copy of the outputs for what is in t.
func (u *unet) once(t *unetTensors, times []float64) ([]float32, error) {
	s, err := u.session(0)
	if err != nil {
		return nil, err
	}
	if err := u.infer(context.Background(), s, t, times); err != nil {
		return nil, err
	}
	return slices.Clone(t.out.values), nil
}

func readModel(path string) (*onnxpb.ModelProto, error) {
	data, err := onnx.ReadModel(path)
	if err != nil {
		return nil, err
	}
	return onnxpb.Unmarshal(data)
}
