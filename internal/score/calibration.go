package score

import (
	"fmt"
	"math"
)

// calibrationBins are those of ECE, the number of Guo et al.
const calibrationBins = 15

// ECE is the expected calibration error (Guo et al., ICML 2017): the mean over 15 bins of equal width of |share that is
// right − mean confidence|, weighted by the pictures in them. Confidences lie in [0, 1]; a bin holds its upper edge.
func ECE(confidence []float32, right []bool) (float64, error) {
	if len(confidence) != len(right) || len(right) == 0 {
		return 0, fmt.Errorf("calibration error of %d confidences of %d pictures", len(confidence), len(right))
	}
	var sum, hits [calibrationBins]float64
	for i, c := range confidence {
		if !(c >= 0 && c <= 1) {
			return 0, fmt.Errorf("confidence %d is %g; want 0 to 1", i, c)
		}
		b := max(0, int(math.Ceil(float64(c)*calibrationBins))-1)
		sum[b] += float64(c)
		if right[i] {
			hits[b]++
		}
	}
	var gap float64
	for b := range sum {
		gap += math.Abs(hits[b] - sum[b])
	}
	return gap / float64(len(right)), nil
}
