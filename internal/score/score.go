// Package score tells in-distribution (ID) samples from out-of-distribution
// (OOD) ones: scores of a classifier's logits, always higher for more ID, and
// the measures of how well such scores separate the two.
package score

import (
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/matrix"
)

// Func scores one sample by its logits [C], C at least 1. Higher is more ID.
type Func func(logits []float32) float64

// Named is a score with the name that reports call it by.
type Named struct {
	Name  string
	Score Func
}

// All are the scores that need nothing but logits, with the constants that
// OpenOOD v1.5 takes; the first is the default.
func All() []Named {
	return []Named{
		{"energy", func(f []float32) float64 { return Energy(f, 1) }},
		{"msp", MSP},
		{"maxlogit", MaxLogit},
		{"gen", func(f []float32) float64 { return GEN(f, 0.1, 100) }},
	}
}

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

// GEN is the generalised entropy −Σ pᵞ(1−p)ᵞ over the top most probable classes
// (Liu, Lochman and Zach, CVPR 2023).
func GEN(logits []float32, gamma float64, top int) float64 {
	lse := Energy(logits, 1)
	sorted := slices.Sorted(slices.Values(logits))
	var sum float64
	for i := range min(top, len(sorted)) {
		p := math.Exp(float64(sorted[len(sorted)-1-i]) - lse)
		sum += math.Pow(p, gamma) * math.Pow(max(0, 1-p), gamma)
	}
	return -sum
}

// Rows scores every row of logits [N, C]. A logit that is not finite is an
// error that names its row.
func Rows(logits matrix.Matrix, f Func) ([]float64, error) {
	if err := logits.Check(); err != nil {
		return nil, fmt.Errorf("logits: %w", err)
	}
	if logits.Cols == 0 {
		return nil, fmt.Errorf("logits: there are no classes")
	}
	out := make([]float64, logits.Rows)
	for i := range out {
		out[i] = f(logits.Row(i))
	}
	return out, nil
}

// Accuracy is the share of rows of logits [N, C] whose largest value stands at
// the label; the first of equal ones counts.
func Accuracy(logits matrix.Matrix, labels []int) (float64, error) {
	if err := logits.Check(); err != nil {
		return 0, fmt.Errorf("logits: %w", err)
	}
	if len(labels) != logits.Rows || len(labels) == 0 {
		return 0, fmt.Errorf("accuracy of %d rows with %d labels", logits.Rows, len(labels))
	}
	right := 0
	for i, label := range labels {
		if label < 0 || label >= logits.Cols {
			return 0, fmt.Errorf("label %d is %d; there are %d classes", i, label, logits.Cols)
		}
		row := logits.Row(i)
		if slices.Index(row, slices.Max(row)) == label {
			right++
		}
	}
	return float64(right) / float64(len(labels)), nil
}
