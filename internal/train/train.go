// Package train is the training engine: small convolutional classifiers whose
// whole training step (forward, loss, gradients, update) is one ONNX graph,
// built in Go by package graph and run by ONNX Runtime.
//
// A [Spec] names the network, the head with its loss, the batch and the
// optimiser. [New] compiles it; [Trainer.Step] runs one step; [Trainer.SaveState]
// and [Trainer.LoadState] carry it over process deaths bit for bit; and
// [Trainer.Inference] is the trained classifier as an ONNX model.
package train

import (
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train/graph"
)

// Array is a row-major float32 tensor with its shape.
type Array = graph.Array

// SGD is stochastic gradient descent with (Nesterov) momentum and weight decay.
type SGD = graph.SGD

// AdamW is Adam with decoupled weight decay.
type AdamW = graph.AdamW

// Optimizer is [SGD] or [AdamW].
type Optimizer = graph.Optimizer

// Spec describes what is trained and how. Two equal specs with equal batches
// give equal training runs on the same machine and thread count.
type Spec struct {
	Network Network
	Head    Head

	// Height and Width of the pictures in pixels, multiples of 8; 0 is 32.
	Height, Width int
	// Mean and Std standardise the pictures in [0, 1] per channel, inside the
	// graph; a zero Std is 1.
	Mean, Std [3]float32

	// Batch is the number of in-distribution rows of every batch, Outliers the
	// number of outlier rows after them (only with a head that learns from them).
	Batch, Outliers int

	// Optimizer; nil is SGD of momentum 0.9 with Nesterov, weight decay 5e-4.
	Optimizer Optimizer
	// EMA is the decay of a moving average of parameters and running statistics, in
	// [0, 1); 0 keeps none. At step t the decay is min(EMA, (1+t)/(10+t)), so that
	// the initial values are soon forgotten. The exported classifier is the average.
	EMA float64
	// LabelSmoothing s turns a label into (1−s)·one-hot + s/classes.
	LabelSmoothing float32
	// Seed of the initial parameters.
	Seed uint64
}

// Config says where the training step runs: provider, threads, precision.
type Config = onnx.Config

// withDefaults fills what was left at zero.
func (s Spec) withDefaults() Spec {
	if s.Height == 0 {
		s.Height = 32
	}
	if s.Width == 0 {
		s.Width = 32
	}
	for i := range s.Std {
		if s.Std[i] == 0 {
			s.Std[i] = 1
		}
	}
	if s.Optimizer == nil {
		s.Optimizer = SGD{Momentum: 0.9, Nesterov: true, WeightDecay: 5e-4}
	}
	return s
}

// validate reports every problem of the spec at once.
func (s Spec) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Network == nil {
		bad("network: none was given (ResNet9, ResNet18, ResNet34 or WRN)")
	} else if err := s.Network.validate(); err != nil {
		errs = append(errs, err)
	}
	if s.Head == nil {
		bad("head: none was given (Classifier or Cosine)")
	} else {
		errs = append(errs, s.Head.validate(s.Outliers))
	}
	if s.Height <= 0 || s.Width <= 0 || s.Height%8 != 0 || s.Width%8 != 0 {
		bad("picture size %d by %d: both must be positive multiples of 8", s.Height, s.Width)
	}
	for i, v := range s.Std {
		if !(v > 0) {
			bad("std of channel %d is %g: it must be positive", i, v)
		}
	}
	if s.Batch < 1 {
		bad("batch %d: at least one in-distribution row is needed", s.Batch)
	}
	if s.Outliers < 0 {
		bad("outliers %d: it cannot be negative", s.Outliers)
	}
	errs = append(errs, s.Optimizer.Validate())
	if !(s.EMA >= 0 && s.EMA < 1) {
		bad("moving average: decay %g; it lies in [0, 1)", s.EMA)
	}
	if !(s.LabelSmoothing >= 0 && s.LabelSmoothing < 1) {
		bad("label smoothing %g: it lies in [0, 1)", s.LabelSmoothing)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("training spec: %w", err)
	}
	return nil
}
