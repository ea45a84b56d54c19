//go:build !amd64

package simd

func detected() Set { return Portable }
