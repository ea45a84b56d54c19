// Package score measures how well scores, always higher for more ID, tell
// in-distribution (ID) samples from out-of-distribution (OOD) ones: with
// resampling, thresholds, calibration and drift. The OOD scores themselves are in
// package method below it.
package score

import (
	"math"
	"slices"
)

// MSP is the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017).
func MSP(logits []float32) float64 {
	return math.Exp(MaxLogit(logits) - Energy(logits, 1))
}

// MaxLogit is the largest logit (Hendrycks et al., ICML 2022).
func MaxLogit(logits []float32) float64 { return float64(slices.Max(logits)) }

// Energy is the negative free energy T·logsumexp(f/T) at temperature T (Liu et
// al., NeurIPS 2020).
func Energy(logits []float32, temperature float64) float64 {
	top := MaxLogit(logits)
	var sum float64
	for _, f := range logits {
		sum += math.Exp((float64(f) - top) / temperature)
	}
	return top + temperature*math.Log(sum)
}

// Widen turns scores as models give them into those that metrics take.
func Widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}
