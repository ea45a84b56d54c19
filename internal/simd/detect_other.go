//go:build !amd64 && !arm64

package simd

var offered = []Set{Portable}

func detected() Set { return Portable }
