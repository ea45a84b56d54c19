//go:build !amd64 && !arm64

package matrix

// run computes the tile into c, rows ldc numbers apart.
func (t *tile) run(c []float32, ldc int) { t.runPortable(c, ldc) }
