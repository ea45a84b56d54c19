package diffusion

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// unet predicts the noise of latents. It reads the types and ranks of its
// inputs from the graph, since exporters differ. It is safe for concurrent use.
type unet struct {
	path     string
	onnx     onnx.Config
	lanes    int
	rows     int // of a run, at most
	channels int
	height   int
	width    int
	states   [2]int64 // L, H of encoder_hidden_states

	sample, timestep, hidden, out onnx.IO
	rewrites                      rewrites
	refused                       error // why the graph is not rewritten as far as it could be

	batcher *batcher
	tensors []*unetTensors // of each lane

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
func openUNet(dir string, cfg Config, length, width int) (*unet, error) {
	u := &unet{
		path: filepath.Join(dir, "unet", "model.onnx"), onnx: cfg.ONNX, lanes: max(1, cfg.Lanes),
		states: [2]int64{int64(length), int64(width)}, sessions: map[int]*onnx.Session{},
	}
	u.onnx.Threads = threadsOfLane(cfg.ONNX.Threads, u.lanes)
	config, err := readUNetConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("open U-Net: %w", err)
	}
	if err := u.describe(config); err != nil {
		return nil, fmt.Errorf("open U-Net: %s: %w", u.path, err)
	}
	if err := u.prepare(cfg.Untouched); err != nil {
		return nil, fmt.Errorf("open U-Net: %w", err)
	}
	return u, nil
}

// start makes the lanes, for runs of up to so many pictures with guidance.
func (u *unet) start(pictures int) {
	u.rows = 2 * pictures
	u.tensors = make([]*unetTensors, u.lanes)
	cfg := batcherConfig{lanes: u.lanes, rows: u.rows, mixed: ownTimesteps(u.timestep), wait: batchWait, run: u.run}
	if u.fixed() {
		cfg.fit = u.fit
	}
	u.batcher = newBatcher(cfg)
}

// batchWait is how long a run that is not full waits for renderings under way.
const batchWait = 4 * time.Millisecond

// threadsOfLane divides threads, 0 being all CPUs, over lanes.
func threadsOfLane(threads, lanes int) int {
	if lanes == 1 {
		return threads
	}
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return max(1, threads/lanes)
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
		if ownTimesteps(u.timestep) {
			cfg.Shapes[u.timestep.Name] = []int64{b}
		}
	}
	s, err := u.load(cfg)
	if err == nil {
		u.sessions[batch] = s
	}
	return s, err
}

func (u *unet) load(cfg onnx.Config) (*onnx.Session, error) {
	if u.rewrites == (rewrites{}) {
		return onnx.NewSessionFile(u.path, cfg)
	}
	model, err := readModel(u.path)
	if err == nil {
		err = u.rewrites.apply(model)
	}
	var data []byte
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
	if u.batcher != nil {
		u.batcher.close()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for _, s := range u.sessions {
		errs = append(errs, s.Close())
	}
	for _, t := range u.tensors {
		t.close()
	}
	return errors.Join(errs...)
}

// denoiser is a rendering's place in the batcher, with its rows.
type denoiser struct {
	u      *unet
	rows   int
	sample []float32 // [B, C, h, w]
	states []float32 // [B, L, H]
	out    []float32 // [B, C, h, w]
	closed bool
}

// denoiser makes room for a batch with its text embeddings, [B, L, H].
func (u *unet) denoiser(states []float32) *denoiser {
	rows := len(states) / int(u.states[0]*u.states[1])
	n := rows * u.channels * u.height * u.width
	u.batcher.enter()
	return &denoiser{u: u, rows: rows, states: states, sample: make([]float32, n), out: make([]float32, n)}
}

// predict computes the output for the latents in d.sample at timestep t and
// returns d.out.
func (d *denoiser) predict(ctx context.Context, t float64) ([]float32, error) {
	if err := d.u.checkTimestep(t); err != nil {
		return nil, err
	}
	if err := d.u.batcher.predict(ctx, t, d.rows, d.sample, d.states, d.out); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s: timestep %v: %w", d.u.path, t, err)
	}
	return d.out, nil
}

// close says that no more calls come. Closing twice does nothing.
func (d *denoiser) close() {
	if !d.closed {
		d.closed = true
		d.u.batcher.leave()
	}
}
