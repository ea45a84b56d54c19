package trainer

import (
	"math"
	"slices"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// TestEngineSettingsTrain trains with other networks, optimisers, schedules and precisions, and with and without each
// smaller option: another loss says that it did something.
func TestEngineSettingsTrain(t *testing.T) {
	in := Pictures{ID: sample(t, "cifar10_train.tar.gz", 12)}
	none := 0.0
	cases := map[string]*trainerv1.DetectorTraining{
		"default": {}, "smoothing": {LabelSmoothing: 0.2}, "no decay": {WeightDecay: &none, Schedule: "constant", Warmup: &none},
		"constant": {Schedule: "constant", Warmup: &none}, "wrn": {Network: "wrn-16-2", Schedule: "cosine"}, "adamw": {Optimizer: "adamw", Ema: 0.9, ClipNorm: 1},
	}
	if slices.Contains(onnx.Providers(), "openvino") {
		cases["bf16"] = &trainerv1.DetectorTraining{Precision: "bf16"}
	}
	seen := map[float64]string{}
	for name, q := range cases {
		trained, s := trainSmall(t, in, q)
		if s.message().GetNetwork() == "" || len(trained.Model) == 0 {
			t.Errorf("%s: %+v", name, s)
		}
		last := trained.Loss[len(trained.Loss)-1].Total
		if other, ok := seen[last]; ok || math.IsNaN(last) {
			t.Errorf("%s and %s train alike, to a loss of %g", name, other, last)
		}
		seen[last] = name
	}
}
