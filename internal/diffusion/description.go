package diffusion

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Description is what can be said of a model without loading it.
type Description struct {
	Class         string // of its pipeline
	Width         int    // of a token embedding; 0 where no configuration says it
	Latents       [3]int // C, h, w
	PictureHeight int    // in pixels; 0 where nothing says it
	PictureWidth  int
	Precision     string // of its weights: float32, float16, …; with the parts that differ from the U-Net's
	Prediction    string // epsilon, v_prediction, sample
	Scheduler     string // class of diffusers
	Bytes         int64  // of its files
}

// Describe vets the model in dir and says what it is. It reads all of it.
func Describe(dir string) (Description, error) {
	d, err := describe(dir)
	if err != nil {
		return d, fmt.Errorf("diffusion model %s: %w", dir, err)
	}
	return d, nil
}

func describe(dir string) (d Description, err error) {
	infos, err := vet(dir)
	if err != nil {
		return d, err
	}
	if d.Class, err = readIndex(dir); err != nil {
		return d, err
	}
	scheduler, err := ReadSchedulerConfig(filepath.Join(dir, "scheduler", "scheduler_config.json"))
	if err != nil {
		return d, err
	}
	scheduler = scheduler.withDefaults(scheduler.ownName())
	d.Prediction, d.Scheduler = scheduler.PredictionType, scheduler.ClassName
	var text textConfig
	if err := readOptional(filepath.Join(dir, "text_encoder", "config.json"), &text); err != nil {
		return d, err
	}
	if text.Text != nil && text.HiddenSize == 0 {
		text = *text.Text
	}
	u := &unet{path: filepath.Join(dir, "unet", "model.onnx"), states: [2]int64{0, text.HiddenSize}}
	config, err := readUNetConfig(dir)
	if err != nil {
		return d, err
	}
	if text.HiddenSize == 0 {
		config.CrossWidths = nil // nothing to compare with
	}
	if err := u.describe(config); err != nil {
		return d, fmt.Errorf("%s: %w", u.path, err)
	}
	d.Width, d.Latents = int(text.HiddenSize), [3]int{u.channels, u.height, u.width}
	if err := d.pictureSize(dir, infos["vae_decoder"]); err != nil {
		return d, err
	}
	d.Precision = precision(infos)
	return d, d.weigh(dir)
}

// pictureSize takes the pixels per latent from the blocks of the VAE, or the
// size that its graph declares.
func (d *Description) pictureSize(dir string, decoder *onnxpb.Info) error {
	var config vaeConfig
	if err := readOptional(filepath.Join(dir, "vae_decoder", "config.json"), &config); err != nil {
		return err
	}
	if n := len(config.BlockOutChannels); n > 0 && n <= 8 {
		d.PictureHeight, d.PictureWidth = d.Latents[1]<<(n-1), d.Latents[2]<<(n-1)
		return nil
	}
	for _, out := range decoder.Outputs {
		if dims := out.GetType().GetTensorType().GetShape().GetDim(); len(dims) == 4 && dims[2].GetDimValue() > 0 && dims[3].GetDimValue() > 0 {
			d.PictureHeight = int(min(dims[2].GetDimValue(), math.MaxInt32))
			d.PictureWidth = int(min(dims[3].GetDimValue(), math.MaxInt32))
		}
	}
	return nil
}

func (d *Description) weigh(dir string) error {
	files, err := Files(dir)
	if err != nil {
		return err
	}
	for _, name := range files {
		stat, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		d.Bytes += stat.Size()
	}
	return nil
}

// precision is the type that most bytes of the U-Net's weights have, and those
// of other parts that differ.
func precision(infos map[string]*onnxpb.Info) string {
	of := map[string]string{}
	for part, info := range infos {
		bytes := map[onnx.DType]int64{}
		for _, s := range info.Stored {
			bytes[onnx.DType(s.DType)] += int64(len(s.Raw))
		}
		for _, e := range info.External {
			bytes[onnx.DType(e.DType)] += e.Bytes
		}
		best := onnx.Float32
		for _, t := range []onnx.DType{onnx.Float16, onnx.BFloat16, onnx.Int8, onnx.Uint8, onnx.Float64} {
			if bytes[t] > bytes[best] {
				best = t
			}
		}
		of[part] = best.String()
	}
	text := of["unet"]
	var others []string
	for _, part := range []string{"text_encoder", "vae_decoder"} {
		if of[part] != text {
			others = append(others, part+" "+of[part])
		}
	}
	if len(others) > 0 {
		text += " (" + strings.Join(slices.Compact(others), ", ") + ")"
	}
	return text
}
