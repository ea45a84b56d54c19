package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Image-to-image (SDEdit, Meng et al. 2022): a given picture is encoded, made
// noisy, and denoised again from the middle of the schedule, as
// StableDiffusionImg2ImgPipeline of diffusers does.

// firstStep is the step that a rendering begins with: the last strength·steps
// of the schedule are taken, all of them without a given picture.
func (o Options) firstStep(plan Scheduler) (int, error) {
	if o.Strength == 0 {
		return 0, nil
	}
	if !(o.Strength > 0 && o.Strength <= 1) {
		return 0, fmt.Errorf("strength %v: want more than 0, at most 1", o.Strength)
	}
	steps := o.withDefaults().Steps
	taken := min(int(float64(steps)*o.Strength), steps)
	if taken == 0 {
		return 0, fmt.Errorf("strength %v of %d steps leaves none: want at least %v, or more steps", o.Strength, steps, 1/float64(steps))
	}
	if _, err := plan.Start(steps - taken); err != nil {
		return 0, err
	}
	return steps - taken, nil
}

// checkInit holds given pictures against what the rendering asks for.
func (o Options) checkInit(i int, item Item) error {
	switch {
	case o.Strength == 0 && item.Init != nil:
		return fmt.Errorf("item %d: a picture is given, but no strength", i)
	case o.Strength != 0 && item.Init == nil:
		return fmt.Errorf("item %d: strength %v needs a picture to begin with", i, o.Strength)
	}
	return nil
}

// encoder computes latents of pictures. It is safe for concurrent use.
type encoder struct {
	path    string
	session *onnx.Session
	in, out onnx.IO
	noise   string // input that takes the place of numbers which the graph would draw itself
}

// encoders is where a pipeline keeps its encoder once somebody needs it.
type encoders struct {
	mu  sync.Mutex
	vae *encoder
}

// HasEncoder says whether the model has a VAE encoder, so that pictures can be
// given.
func (p *Pipeline) HasEncoder() bool {
	_, err := os.Stat(filepath.Join(p.dir, "vae_encoder", "model.onnx"))
	return err == nil
}

// encoder opens vae_encoder/ when it is first needed.
func (p *Pipeline) encoder() (*encoder, error) {
	p.encoders.mu.Lock()
	defer p.encoders.mu.Unlock()
	if p.encoders.vae == nil {
		if !p.HasEncoder() {
			return nil, fmt.Errorf("%s has no vae_encoder/model.onnx, which pictures are encoded with: export the model with its encoder", p.dir)
		}
		e, err := openEncoder(p.dir, p.plain, p.unet.channels)
		if err != nil {
			return nil, fmt.Errorf("open VAE encoder: %w", err)
		}
		p.encoders.vae = e
	}
	return p.encoders.vae, nil
}

func (e *encoders) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.vae == nil {
		return nil
	}
	return e.vae.session.Close()
}

func openEncoder(dir string, cfg onnx.Config, channels int) (*encoder, error) {
	e := &encoder{path: filepath.Join(dir, "vae_encoder", "model.onnx")}
	data, err := os.ReadFile(e.path)
	if err != nil {
		return nil, err
	}
	model, err := onnxpb.Unmarshal(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.path, err)
	}
	if e.noise, err = drawnOutside(model); err != nil {
		return nil, fmt.Errorf("%s: %w", e.path, err)
	}
	if e.noise == "" {
		e.session, err = onnx.NewSessionFile(e.path, cfg)
	} else if data, err = onnxpb.Marshal(model); err == nil {
		cfg.ExternalData = filepath.Dir(e.path)
		e.session, err = onnx.NewSession(data, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.path, err)
	}
	var inputs []onnx.IO
	for _, in := range e.session.Inputs() {
		if in.Name != e.noise {
			inputs = append(inputs, in)
		}
	}
	outputs := e.session.Outputs()
	if len(inputs) != 1 || len(outputs) < 1 || len(inputs[0].Shape) != 4 || len(outputs[0].Shape) != 4 {
		e.session.Close()
		return nil, fmt.Errorf("%s: want one input [B, 3, H, W] and an output [B, C, h, w], got %v and %v", e.path, inputs, outputs)
	}
	e.in, e.out = inputs[0], outputs[0]
	if c := e.out.Shape[1]; c > 0 && c != int64(channels) && c != 2*int64(channels) {
		e.session.Close()
		return nil, fmt.Errorf("%s: %d latent channels, the U-Net has %d", e.path, c, channels)
	}
	return e, nil
}

// drawnOutside makes an input of the standard normal numbers that a graph draws
// itself, and returns its name; "" when it draws none. Some exporters put the
// sampling of the latents into the graph, where nobody can seed it.
func drawnOutside(m *onnxpb.ModelProto) (string, error) {
	var name string
	for i := 0; i < len(m.Graph.Node); i++ {
		n := m.Graph.Node[i]
		if !slices.Contains([]string{"RandomNormalLike", "RandomNormal", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}, n.OpType) {
			continue
		}
		if name != "" || !strings.HasPrefix(n.OpType, "RandomNormal") || !standard(n) {
			return "", fmt.Errorf("its graph draws random numbers (%s): export it again so that it gives the latents' mean and variance", n.OpType)
		}
		name = n.Output[0]
		m.Graph.Input = append(m.Graph.Input, onnxpb.Value(name, onnxpb.TensorProto_FLOAT, surgeryPrefix+"b", surgeryPrefix+"c", surgeryPrefix+"h", surgeryPrefix+"w"))
		m.Graph.Node = slices.Delete(m.Graph.Node, i, i+1)
		m.Graph.ValueInfo = slices.DeleteFunc(m.Graph.ValueInfo, func(v *onnxpb.ValueInfoProto) bool { return v.Name == name })
		i--
	}
	return name, nil
}

// standard says whether a node draws float32 of mean 0 and deviation 1.
func standard(n *onnxpb.NodeProto) bool {
	for _, a := range n.Attribute {
		if a.Name == "mean" && a.GetF() != 0 || a.Name == "scale" && a.GetF() != 1 {
			return false
		}
	}
	kind := onnxpb.TensorProto_DataType(attribute(n, "dtype", int64(onnxpb.TensorProto_FLOAT)))
	return kind == onnxpb.TensorProto_FLOAT
}

// encode samples latents [B, C, h, w] of pictures of 8-bit RGB [H, W, 3] each,
// before the VAE's scaling. noise is standard normal, [B, C, h, w]; it is used
// where the encoder gives a distribution.
func (e *encoder) encode(ctx context.Context, pictures [][]uint8, height, width int, noise []float32, shape []int64) ([]float32, error) {
	in, err := newFloatTensor(e.in.DType, int64(len(pictures)), 3, int64(height), int64(width))
	if err != nil {
		return nil, err
	}
	defer in.tensor.Close()
	for b, pix := range pictures {
		for c := range 3 {
			plane := in.values[(3*b+c)*height*width:][:height*width]
			for i := range plane {
				plane[i] = float32(2*(float32(pix[3*i+c])/255)) - 1
			}
		}
	}
	in.push()
	feed := map[string]*onnx.Tensor{e.in.Name: in.tensor}
	if e.noise != "" {
		drawn, err := onnx.NewFloat32(noise, shape...)
		if err != nil {
			return nil, err
		}
		defer drawn.Close()
		feed[e.noise] = drawn
	}
	out, err := e.session.Run(ctx, feed, e.out.Name)
	if err != nil {
		return nil, err
	}
	latents := out[e.out.Name]
	defer latents.Close()
	got := latents.Shape()
	values, err := latents.Floats()
	if err != nil {
		return nil, err
	}
	switch double := []int64{shape[0], 2 * shape[1], shape[2], shape[3]}; {
	case slices.Equal(got, shape):
		return slices.Clone(values), nil
	case slices.Equal(got, double):
		return sampleLatents(values, noise, int(shape[0])), nil
	}
	return nil, fmt.Errorf("its output is %v, want %v, or twice the channels", got, shape)
}

// sampleLatents draws from the distributions of n pictures: means, then
// logarithms of variances, [n, 2C, h, w].
func sampleLatents(parameters, noise []float32, n int) []float32 {
	out := make([]float32, len(noise))
	size := len(noise) / n
	for i := range out {
		at := i/size*2*size + i%size
		log := min(max(float64(parameters[at+size]), -30), 20)
		out[i] = float32(float64(parameters[at]) + math.Exp(log/2)*float64(noise[i]))
	}
	return out
}

// latentsOf encodes the pictures of a batch, the first of which is item first of
// all, to latents [B, C, h, w] as the U-Net has them.
func (p *Pipeline) latentsOf(ctx context.Context, e *encoder, batch []Item, first int, noise []float32) ([]float32, error) {
	height, width, err := p.PictureSize(ctx)
	if err != nil {
		return nil, err
	}
	pictures := make([][]uint8, len(batch))
	for i, item := range batch {
		if pictures[i] = item.Init; len(item.Init) != 3*height*width {
			return nil, fmt.Errorf("item %d: its picture has %d bytes, want %d of RGB for %d×%d pixels", first+i, len(item.Init), 3*height*width, width, height)
		}
	}
	latents, err := e.encode(ctx, pictures, height, width, noise, p.batchShape(len(batch)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.path, err)
	}
	for i, x := range latents {
		latents[i] = float32((float64(x) - p.vae.shift) * p.vae.scaling)
	}
	return latents, nil
}

// batchShape is [n, C, h, w].
func (p *Pipeline) batchShape(n int) []int64 {
	return []int64{int64(n), int64(p.unet.channels), int64(p.unet.height), int64(p.unet.width)}
}

// EncodePurpose is the purpose of the streams of noise with which the latents
// of given pictures are drawn from what the encoder says of them.
const EncodePurpose = "diffusion.encode"

// givenLatents are what a batch of given pictures starts from at a step,
// [B, C, h, w].
func (p *Pipeline) givenLatents(ctx context.Context, items []Item, plan Scheduler, first int) ([]float32, error) {
	e, err := p.encoder()
	if err != nil {
		return nil, err
	}
	var drawn []float32
	for _, item := range items {
		key := item.Key
		key.Purpose = EncodePurpose
		noise, err := p.draw(key)
		if err != nil {
			return nil, err
		}
		drawn = append(drawn, noise...)
	}
	latents, err := p.latentsOf(ctx, e, items, 0, drawn)
	if err != nil {
		return nil, err
	}
	for _, x := range latents {
		if x != x {
			return nil, errors.New(e.path + ": latents have numbers that are not finite")
		}
	}
	size := p.latentSize()
	for i, item := range items {
		noise, err := p.initialNoise(item)
		if err != nil {
			return nil, err
		}
		plan.AddNoise(first, latents[i*size:(i+1)*size], noise)
	}
	return latents, nil
}
