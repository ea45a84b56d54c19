package trainer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// Names of the defaults.
const (
	resnet9 = "resnet9"
	sgd     = "sgd"
	adamW   = "adamw"
	fp32    = "fp32"
	bf16    = "bf16"
)

// Engine is how the steps of a training are taken; see DetectorTraining in trainer.proto. All are set.
type Engine struct {
	Network, Optimizer, Schedule, Precision            string
	WeightDecay, Warmup, EMA, LabelSmoothing, ClipNorm float64
}

// engineOf fills defaults and reports what is out of bounds.
func engineOf(c *fault.Checks, t *trainerv1.DetectorTraining) Engine {
	e := Engine{
		Network: cmp.Or(t.GetNetwork(), resnet9), Optimizer: cmp.Or(t.GetOptimizer(), sgd), Schedule: cmp.Or(t.GetSchedule(), "onecycle"),
		Precision: cmp.Or(t.GetPrecision(), fp32), EMA: t.GetEma(), LabelSmoothing: t.GetLabelSmoothing(), ClipNorm: t.GetClipNorm(),
		WeightDecay: 5e-4, Warmup: 0.05,
	}
	if e.Optimizer == adamW {
		e.WeightDecay = 0.05
	}
	if e.Schedule == "onecycle" {
		e.Warmup = 0.25
	}
	if t != nil && t.WeightDecay != nil {
		e.WeightDecay = *t.WeightDecay
	}
	if t != nil && t.Warmup != nil {
		e.Warmup = *t.Warmup
	}
	oneOf := func(field, v string, known ...string) {
		c.That(slices.Contains(known, v), "training."+field, "%q; want one of %s", v, strings.Join(known, ", "))
	}
	oneOf("network", e.Network, train.Networks()...)
	oneOf("optimizer", e.Optimizer, sgd, adamW)
	oneOf("schedule", e.Schedule, train.Schedules...)
	oneOf("precision", e.Precision, fp32, bf16)
	c.That(e.WeightDecay >= 0 && e.WeightDecay <= 1, "training.weight_decay", "%g; want 0 to 1", e.WeightDecay)
	c.That(e.Warmup >= 0 && e.Warmup <= 0.9 && (e.Warmup > 0 || e.Schedule != "onecycle"), "training.warmup", "%g; want 0 (onecycle: above 0) to 0.9", e.Warmup)
	c.That(e.EMA >= 0 && e.EMA < 1, "training.ema", "%g; want 0 to below 1", e.EMA)
	c.That(e.LabelSmoothing >= 0 && e.LabelSmoothing < 1, "training.label_smoothing", "%g; want 0 to below 1", e.LabelSmoothing)
	c.That(e.ClipNorm >= 0 && e.ClipNorm <= 1000, "training.clip_norm", "%g; want 0 to 1000", e.ClipNorm)
	return e
}

// rate is the default of the peak learning rate.
func (e Engine) rate() float64 {
	switch {
	case e.Optimizer == adamW:
		return 0.002
	case e.Network == resnet9:
		return 0.2
	}
	return 0.1
}

// width is the default of the network's width.
func (e Engine) width() int {
	switch {
	case e.Network == resnet9:
		return 24
	case strings.HasPrefix(e.Network, "wrn-"):
		return 16
	}
	return 64
}

// set puts the settings into a message.
func (e Engine) set(t *trainerv1.DetectorTraining) {
	t.Network, t.Optimizer, t.Schedule, t.Precision = e.Network, e.Optimizer, e.Schedule, e.Precision
	t.WeightDecay, t.Warmup = &e.WeightDecay, &e.Warmup
	t.Ema, t.LabelSmoothing, t.ClipNorm = e.EMA, e.LabelSmoothing, e.ClipNorm
}

// optimizer of the training engine.
func (e Engine) optimizer() train.Optimizer {
	if e.Optimizer == adamW {
		return train.AdamW{WeightDecay: e.WeightDecay, ClipNorm: e.ClipNorm}
	}
	return train.SGD{Momentum: 0.9, Nesterov: true, WeightDecay: e.WeightDecay, ClipNorm: e.ClipNorm}
}

// runs is where the steps run, for a role that runs its models with cfg.
func (e Engine) runs(cfg onnx.Config) onnx.Config {
	if e.Precision == bf16 {
		return onnx.Config{Provider: "openvino", Precision: bf16, Threads: cfg.Threads}
	}
	return cfg
}

// available refuses a precision that this process cannot run.
func (e Engine) available() error {
	if e.Precision == bf16 && !slices.Contains(onnx.Providers(), "openvino") {
		return fault.Invalid("training.precision", "bf16 needs the OpenVINO provider; this server's ONNX Runtime has %s: take fp32, or run make setup on x86-64 Linux", strings.Join(onnx.Providers(), ", "))
	}
	return nil
}
