//go:build !amd64

package philox

import "github.com/dreamood/dreamood/internal/simd"

// normals fills dst, of whole blocks, and moves on.
func (d *draw) normals(_ simd.Set, dst []float32) { d.portableNormals(dst) }
