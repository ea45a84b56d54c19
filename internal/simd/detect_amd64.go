package simd

import "golang.org/x/sys/cpu"

// offered are the sets that this architecture has kernels of.
var offered = []Set{Portable, SSE2, AVX2, AVX512}

func detected() Set {
	switch {
	case !cpu.X86.HasAVX2 || !cpu.X86.HasFMA || !cpu.X86.HasPOPCNT:
		return SSE2
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasBMI2:
		return AVX512
	default:
		return AVX2
	}
}
