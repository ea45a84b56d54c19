package train

import (
	"hash/fnv"
	"math/rand/v2"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// initial draws the first value of a slot. Every slot has its own stream, keyed
// by seed and name, so a value does not depend on which others there are.
func initial(slot graph.Slot, seed uint64) Array {
	n := 1
	for _, d := range slot.Shape {
		n *= d
	}
	out := Array{Shape: slot.Shape, Data: make([]float32, n)}
	h := fnv.New64a()
	h.Write([]byte(slot.Name))
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	for i := range out.Data {
		v := slot.Init.Scale
		switch slot.Init.Kind {
		case graph.Normal:
			v *= r.NormFloat64()
		case graph.Uniform:
			v *= 2*r.Float64() - 1
		}
		out.Data[i] = float32(v)
	}
	return out
}
