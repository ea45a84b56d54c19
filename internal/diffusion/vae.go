package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/onnx"
)

// ErrNotFinite means that a picture came out with numbers that are not finite.
var ErrNotFinite = errors.New("it has numbers that are not finite")

// Image is a picture of 8-bit RGB values, [Height, Width, 3].
type Image struct {
	Pix    []uint8
	Height int
	Width  int
}

// vae decodes latents to pictures. It is safe for concurrent use.
type vae struct {
	path    string
	session *onnx.Session
	in, out onnx.IO
	scaling float64
	shift   float64
}

// vaeConfig is the part of vae_decoder/config.json that is used.
type vaeConfig struct {
	ScalingFactor    *float64 `json:"scaling_factor"`
	ShiftFactor      float64  `json:"shift_factor"`
	LatentChannels   int      `json:"latent_channels"`
	BlockOutChannels []int    `json:"block_out_channels"`
}

const defaultScaling = 0.18215 // of AutoencoderKL in diffusers

func openVAE(dir string, cfg onnx.Config, channels int) (*vae, error) {
	v := &vae{path: filepath.Join(dir, "vae_decoder", "model.onnx"), scaling: defaultScaling}
	path := filepath.Join(dir, "vae_decoder", "config.json")
	var config vaeConfig
	if err := readOptional(path, &config); err != nil {
		return nil, fmt.Errorf("open VAE decoder: %w", err)
	}
	if config.ScalingFactor != nil {
		v.scaling = *config.ScalingFactor
	}
	v.shift = config.ShiftFactor
	if !(v.scaling > 0) {
		return nil, fmt.Errorf("open VAE decoder: %s: scaling_factor %v: want more than 0", path, v.scaling)
	}
	if config.LatentChannels != 0 && config.LatentChannels != channels {
		return nil, fmt.Errorf("open VAE decoder: %s: %d latent channels, the U-Net has %d", path, config.LatentChannels, channels)
	}
	var err error
	if v.session, err = openWide(v.path, cfg); err != nil {
		return nil, fmt.Errorf("open VAE decoder: %w", err)
	}
	inputs, outputs := v.session.Inputs(), v.session.Outputs()
	if len(inputs) != 1 || len(outputs) != 1 || len(inputs[0].Shape) != 4 {
		v.session.Close()
		return nil, fmt.Errorf("open VAE decoder: %s: want one input [B, C, h, w] and one output, got %v and %v", v.path, inputs, outputs)
	}
	v.in, v.out = inputs[0], outputs[0]
	return v, nil
}

// decode turns latents of the given shape [B, C, h, w] into pictures.
func (v *vae) decode(ctx context.Context, latents []float32, shape []int64) ([]Image, error) {
	in, err := newFloatTensor(v.in.DType, shape...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.path, err)
	}
	defer in.tensor.Close()
	for i, x := range latents {
		in.values[i] = float32(float64(x)/v.scaling + v.shift)
	}
	in.push()
	outputs, err := v.session.Run(ctx, map[string]*onnx.Tensor{v.in.Name: in.tensor})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.path, err)
	}
	out := outputs[v.out.Name]
	defer out.Close()
	size := out.Shape()
	if len(size) != 4 || size[0] != shape[0] || size[1] != 3 {
		return nil, fmt.Errorf("%s: output is %v, want [%d, 3, H, W]", v.path, size, shape[0])
	}
	values, err := out.Floats()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.path, err)
	}
	images := make([]Image, shape[0])
	n := len(values) / len(images)
	for i := range images {
		if images[i], err = toImage(values[i*n:(i+1)*n], int(size[2]), int(size[3])); err != nil {
			return nil, fmt.Errorf("%s: picture %d of the batch: %w", v.path, i, err)
		}
	}
	return images, nil
}

// toImage converts planes in [-1, 1] to 8-bit pixels as diffusers does:
// clamp(x/2 + 1/2, 0, 1)·255 in float32, rounded to even.
func toImage(planes []float32, height, width int) (Image, error) {
	n := height * width
	pix := make([]uint8, 3*n)
	for c := range 3 {
		for i, x := range planes[c*n : (c+1)*n] {
			if x != x {
				return Image{}, ErrNotFinite
			}
			unit := max(0, min(1, float32(x*0.5)+0.5))
			pix[3*i+c] = uint8(math.RoundToEven(float64(float32(unit * 255))))
		}
	}
	return Image{Pix: pix, Height: height, Width: width}, nil
}
