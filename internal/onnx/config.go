package onnx

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// Config says how a session runs its model. The zero value runs on the CPU
// provider with as many threads as there are CPUs.
type Config struct {
	Provider  string // "cpu" (default), "openvino", "cuda", "tensorrt"
	Threads   int    // intra-op; 0 = number of CPUs
	Precision string // openvino only: "" (fp32) or "bf16"

	// Device is the index of the GPU; cuda and tensorrt only.
	Device int
	// Engines is the folder where TensorRT keeps the engines that it builds, in
	// minutes, for every model and shape; "" builds them at every start.
	Engines string
	// Shapes fixes the shapes of inputs by name; openvino only, which runs
	// faster with static shapes.
	Shapes map[string][]int64
	// ExternalData is the folder of the model's external data, where the
	// model is given as bytes. "" refuses models with external data.
	ExternalData string
}

func (c Config) validate() error {
	var errs []error
	switch c.Provider {
	case "", "cpu", "openvino", "cuda", "tensorrt":
	default:
		errs = append(errs, fmt.Errorf("provider %q: want cpu, openvino, cuda or tensorrt", c.Provider))
	}
	if c.Threads < 0 {
		errs = append(errs, fmt.Errorf("threads %d: want 0 (all CPUs) or more", c.Threads))
	}
	if c.Device < 0 {
		errs = append(errs, fmt.Errorf("device %d: want 0 or more", c.Device))
	}
	switch {
	case c.Precision != "" && c.Precision != "bf16":
		errs = append(errs, fmt.Errorf("precision %q: want \"\" (fp32) or bf16", c.Precision))
	case c.Precision == "bf16" && c.Provider != "openvino":
		errs = append(errs, errors.New("precision bf16 wants provider openvino"))
	}
	if len(c.Shapes) > 0 && c.Provider != "openvino" {
		errs = append(errs, errors.New("fixed shapes want provider openvino"))
	}
	return errors.Join(errs...)
}

func (c Config) threads() int {
	if c.Threads > 0 {
		return c.Threads
	}
	return runtime.GOMAXPROCS(0)
}

// externalFolderKey tells ONNX Runtime where the external data of a model
// given as bytes lies (kOrtSessionOptionsModelExternalInitializersFileFolderPath).
const externalFolderKey = "session.model_external_initializers_file_folder_path"

func sessionOptions(c Config) (*ort.SessionOptions, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		options.SetIntraOpNumThreads(c.threads()),
		options.SetInterOpNumThreads(1),
		options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
	)
	if err == nil && c.ExternalData != "" {
		err = options.AddSessionConfigEntry(externalFolderKey, c.ExternalData)
	}
	if err == nil {
		if err = appendProvider(options, c); err != nil {
			err = fmt.Errorf("provider %s: %w", c.Provider, err)
		}
	}
	if err != nil {
		options.Destroy()
		return nil, err
	}
	return options, nil
}

func appendProvider(options *ort.SessionOptions, c Config) error {
	switch c.Provider {
	case "openvino":
		return options.AppendExecutionProviderOpenVINO(openvinoOptions(c))
	case "tensorrt": // what TensorRT does not take goes to CUDA
		if err := appendTensorRT(options, c); err != nil {
			return err
		}
		return appendCUDA(options, c)
	case "cuda":
		return appendCUDA(options, c)
	}
	return nil
}

func appendCUDA(options *ort.SessionOptions, c Config) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	err = cuda.Update(map[string]string{
		"device_id":              strconv.Itoa(c.Device),
		"cudnn_conv_algo_search": "HEURISTIC",
		"arena_extend_strategy":  "kSameAsRequested",
	})
	if err != nil {
		return err
	}
	return options.AppendExecutionProviderCUDA(cuda)
}

func appendTensorRT(options *ort.SessionOptions, c Config) error {
	rt, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer rt.Destroy()
	settings := map[string]string{"device_id": strconv.Itoa(c.Device), "trt_fp16_enable": "1"}
	if c.Engines != "" {
		settings["trt_engine_cache_enable"], settings["trt_engine_cache_path"] = "1", c.Engines
		settings["trt_timing_cache_enable"] = "1"
	}
	if err := rt.Update(settings); err != nil {
		return err
	}
	return options.AppendExecutionProviderTensorRT(rt)
}

// openvinoOptions names the precision in any case: OpenVINO would choose bf16
// by itself on CPUs that have it.
func openvinoOptions(c Config) map[string]string {
	hint := "f32"
	if c.Precision == "bf16" {
		hint = "bf16"
	}
	options := map[string]string{
		"device_type": "CPU",
		"load_config": fmt.Sprintf(`{"CPU":{"INFERENCE_PRECISION_HINT":%q,"INFERENCE_NUM_THREADS":"%d"}}`, hint, c.threads()),
	}
	if len(c.Shapes) > 0 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(c.Shapes)) {
			parts = append(parts, name+strings.ReplaceAll(fmt.Sprint(c.Shapes[name]), " ", ","))
		}
		options["reshape_input"] = strings.Join(parts, ",")
	}
	return options
}
