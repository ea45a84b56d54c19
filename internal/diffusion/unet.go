package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// unet predicts the noise of latents. It reads the types and ranks of its
// inputs from the graph, since exporters differ. It is safe for concurrent use.
type unet struct {
	path     string
	onnx     onnx.Config
	channels int
	height   int
	width    int
	states   [2]int64 // L, H of encoder_hidden_states

	sample, timestep, hidden, out onnx.IO
	widened                       bool // timestep is made float32 when the graph is loaded

	mu       sync.Mutex
	sessions map[int]*onnx.Session // by batch size where shapes are fixed, else 0
}

// unetConfig is the part of unet/config.json that is used.
type unetConfig struct {
	SampleSize  jsonSize  `json:"sample_size"`
	InChannels  int       `json:"in_channels"`
	OutChannels int       `json:"out_channels"`
	CrossWidths jsonWidth `json:"cross_attention_dim"`
}

const (
	maxChannels = 1 << 10
	maxLatent   = 1 << 11 // height or width
)

func readUNetConfig(dir string) (unetConfig, error) {
	config := unetConfig{SampleSize: jsonSize{defaultLatent, defaultLatent}, InChannels: defaultChannels}
	err := readOptional(filepath.Join(dir, "unet", "config.json"), &config)
	return config, err
}

// openUNet loads unet/ for text embeddings of shape [B, length, width].
func openUNet(dir string, cfg onnx.Config, length, width int) (*unet, error) {
	u := &unet{
		path: filepath.Join(dir, "unet", "model.onnx"), onnx: cfg,
		states: [2]int64{int64(length), int64(width)}, sessions: map[int]*onnx.Session{},
	}
	config, err := readUNetConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("open U-Net: %w", err)
	}
	if err := u.describe(config); err != nil {
		return nil, fmt.Errorf("open U-Net: %s: %w", u.path, err)
	}
	if !u.fixed() {
		if _, err := u.session(0); err != nil {
			return nil, fmt.Errorf("open U-Net: %w", err)
		}
	}
	return u, nil
}

// describe finds the inputs and outputs by name and checks what they are.
func (u *unet) describe(config unetConfig) error {
	data, err := onnx.ReadModel(u.path)
	if err != nil {
		return err
	}
	inputs, outputs, err := onnx.Describe(data)
	if err != nil {
		return err
	}
	for _, in := range inputs {
		switch in.Name {
		case "sample":
			u.sample = in
		case "timestep":
			u.timestep = in
		case "encoder_hidden_states":
			u.hidden = in
		default:
			return fmt.Errorf("it wants an input %s; supported are U-Nets of Stable Diffusion 1 and 2 with sample, timestep and encoder_hidden_states", in)
		}
	}
	if u.sample.Name == "" || u.timestep.Name == "" || u.hidden.Name == "" || len(outputs) != 1 {
		return fmt.Errorf("want the inputs sample, timestep and encoder_hidden_states and one output, got %v and %v", inputs, outputs)
	}
	u.out = outputs[0]
	if len(u.sample.Shape) != 4 || len(u.timestep.Shape) > 1 || len(u.hidden.Shape) != 3 {
		return fmt.Errorf("want sample of rank 4, timestep of rank 0 or 1, encoder_hidden_states of rank 3, got %v", inputs)
	}
	if kind := u.timestep.DType; kind == onnx.Int64 || kind == onnx.Int32 {
		model, err := onnxpb.Unmarshal(data)
		if err != nil {
			return err
		}
		if u.widened = widenTimestep(model, u.timestep.Name); u.widened {
			u.timestep.DType = onnx.Float32
		}
	}
	if b := u.sample.Shape[0]; b > 0 {
		return fmt.Errorf("the batch size is fixed to %d: export the model with a dynamic one", b)
	}
	size := func(declared int64, configured int) int {
		if declared > 0 {
			return int(min(declared, 1<<30))
		}
		return configured
	}
	u.channels = size(u.sample.Shape[1], config.InChannels)
	u.height = size(u.sample.Shape[2], config.SampleSize.height)
	u.width = size(u.sample.Shape[3], config.SampleSize.width)
	if u.channels < 1 || u.channels > maxChannels || u.height < 1 || u.height > maxLatent || u.width < 1 || u.width > maxLatent {
		return fmt.Errorf("latents [%d, %d, %d]: want 1 to %d channels and 1 to %d rows and columns", u.channels, u.height, u.width, maxChannels, maxLatent)
	}
	if n := config.OutChannels; n != 0 && n != u.channels {
		return fmt.Errorf("%d channels in and %d out: models for inpainting and the like are not supported", u.channels, n)
	}
	for _, w := range config.CrossWidths {
		if int64(w) != u.states[1] {
			return fmt.Errorf("config.json says cross_attention_dim %d, the text encoder gives %d", w, u.states[1])
		}
	}
	if h := u.hidden.Shape[2]; h > 0 && u.states[1] > 0 && h != u.states[1] {
		return fmt.Errorf("encoder_hidden_states has width %d, the text encoder gives %d", h, u.states[1])
	}
	return nil
}

// fixed says whether sessions are made for one batch size each: OpenVINO takes
// about 1.6 times as long with dynamic shapes.
func (u *unet) fixed() bool { return u.onnx.Provider == "openvino" }

func (u *unet) session(batch int) (*onnx.Session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.fixed() {
		batch = 0
	}
	if s := u.sessions[batch]; s != nil {
		return s, nil
	}
	cfg := u.onnx
	if batch > 0 {
		b := int64(batch)
		cfg.Shapes = map[string][]int64{
			u.sample.Name: {b, int64(u.channels), int64(u.height), int64(u.width)},
			u.hidden.Name: {b, u.states[0], u.states[1]},
		}
	}
	s, err := u.load(cfg)
	if err == nil {
		u.sessions[batch] = s
	}
	return s, err
}

func (u *unet) load(cfg onnx.Config) (*onnx.Session, error) {
	half := u.timestep.DType == onnx.Float16 || u.timestep.DType == onnx.BFloat16
	half = half && len(u.timestep.Shape) == 0
	if !half && !u.widened {
		return onnx.NewSessionFile(u.path, cfg)
	}
	data, err := os.ReadFile(u.path)
	if err != nil {
		return nil, err
	}
	model, err := onnxpb.Unmarshal(data)
	switch {
	case err != nil:
	case half:
		err = widenScalar(model, u.timestep.Name)
	default:
		widenTimestep(model, u.timestep.Name)
	}
	if err == nil {
		data, err = onnxpb.Marshal(model)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.path, err)
	}
	cfg.ExternalData = filepath.Dir(u.path)
	s, err := onnx.NewSession(data, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.path, err)
	}
	return s, nil
}

func (u *unet) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for _, s := range u.sessions {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// denoiser runs the U-Net on batches of one size, in memory of its own.
type denoiser struct {
	u       *unet
	session *onnx.Session
	sample  *floatTensor // [B, C, h, w]
	hidden  *floatTensor // [B, L, H]
	out     *floatTensor // [B, C, h, w]
}

// denoiser makes room for a batch and keeps its text embeddings, [B, L, H].
func (u *unet) denoiser(states []float32) (*denoiser, error) {
	b := int64(len(states)) / (u.states[0] * u.states[1])
	session, err := u.session(int(b))
	if err != nil {
		return nil, err
	}
	d := &denoiser{u: u, session: session}
	shape := []int64{b, int64(u.channels), int64(u.height), int64(u.width)}
	var errs [3]error
	d.sample, errs[0] = newFloatTensor(u.sample.DType, shape...)
	d.out, errs[1] = newFloatTensor(u.out.DType, shape...)
	if d.hidden, errs[2] = newFloatTensor(u.hidden.DType, b, u.states[0], u.states[1]); errs[2] == nil {
		copy(d.hidden.values, states)
		d.hidden.push()
	}
	if err := errors.Join(errs[:]...); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// predict computes the output for the latents in d.sample.values at timestep t
// and returns d.out.values.
func (d *denoiser) predict(ctx context.Context, t float64) ([]float32, error) {
	timestep, err := d.timestep(t)
	if err != nil {
		return nil, err
	}
	defer timestep.Close()
	d.sample.push()
	name := d.u.timestep.Name
	if !slices.ContainsFunc(d.session.Inputs(), func(io onnx.IO) bool { return io.Name == name }) {
		name = surgeryPrefix + name
	}
	err = d.session.RunInto(ctx,
		map[string]*onnx.Tensor{d.u.sample.Name: d.sample.tensor, d.u.hidden.Name: d.hidden.tensor, name: timestep},
		map[string]*onnx.Tensor{d.u.out.Name: d.out.tensor})
	if err != nil {
		return nil, fmt.Errorf("%s: timestep %v: %w", d.u.path, t, err)
	}
	d.out.pull()
	return d.out.values, nil
}

// timestep makes the input of that name as the graph wants it: a scalar or a
// vector, which has one element unless its length is fixed or that of the batch.
func (d *denoiser) timestep(t float64) (*onnx.Tensor, error) {
	n := int64(1)
	shape := d.u.timestep.Shape
	if len(shape) == 1 {
		n = max(1, shape[0])
		if name := d.u.timestep.Symbol(0); shape[0] < 0 && name != "" && name == d.u.sample.Symbol(0) {
			n = d.sample.tensor.Shape()[0]
		}
		shape = []int64{n}
	}
	if n > maxConfigFile {
		return nil, fmt.Errorf("%s: timestep of length %d", d.u.path, n)
	}
	kind := d.u.timestep.DType
	if (kind == onnx.Int64 || kind == onnx.Int32) && t != math.Trunc(t) {
		return nil, fmt.Errorf("%s: its timesteps are whole numbers, and this schedule visits %v: choose another scheduler, or timestep_spacing leading or trailing", d.u.path, t)
	}
	switch kind {
	case onnx.Int64:
		return onnx.NewInt64(slices.Repeat([]int64{int64(t)}, int(n)), shape...)
	case onnx.Int32:
		return onnx.NewInt32(slices.Repeat([]int32{int32(t)}, int(n)), shape...)
	default:
		if len(shape) == 0 && kind != onnx.Float64 {
			kind = onnx.Float32
		}
		return onnx.FromFloats(kind, slices.Repeat([]float32{float32(t)}, int(n)), shape...)
	}
}

func (d *denoiser) close() {
	for _, t := range []*floatTensor{d.sample, d.hidden, d.out} {
		if t != nil {
			t.tensor.Close()
		}
	}
}
