package matrix

import (
	"fmt"
	"testing"

	"github.com/dreamood/dreamood/internal/simd"
)

// The product of a round of the sampler, and of a search, with the right
// operand packed in advance.
func BenchmarkMulRight(b *testing.B) {
	for _, shape := range [][3]int{{1500, 500, 768}, {50, 500, 768}, {1, 500, 768}, {1500, 1300, 768}} {
		for _, set := range simd.Levels() {
			m, n, k := shape[0], shape[1], shape[2]
			b.Run(fmt.Sprintf("%dx%dx%d/%s", m, n, k, set), func(b *testing.B) {
				x, y := Pack(random(m, k, 1)), packRight(set, Pack(random(n, k, 2)), 0)
				dst := New(m, n)
				for b.Loop() {
					MulRight(dst, x, y, 0)
				}
				b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
			})
		}
	}
}

func BenchmarkPackRight(b *testing.B) {
	x := Pack(random(500, 768, 1))
	for _, set := range simd.Levels() {
		b.Run(set.String(), func(b *testing.B) {
			b.SetBytes(500 * 768 * 4)
			for b.Loop() {
				packRight(set, x, 0)
			}
		})
	}
}
