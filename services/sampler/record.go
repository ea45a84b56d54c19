package sampler

import (
	"encoding/binary"
	"math"

	"github.com/dreamood/dreamood/internal/npy"
)

// recordFields are the columns of the records of a shard, see the proto's EmbeddingShard.
var recordFields = []npy.Field{
	{Name: "label", Type: "<i4"}, {Name: "index", Type: "<i4"}, {Name: "source", Type: "<i4"}, {Name: "round", Type: "<i4"},
	{Name: "noise", Type: "<i4"}, {Name: "rank", Type: "<i4"}, {Name: "kth_distance", Type: "<f4"}, {Name: "anchor_cosine", Type: "<f4"},
}

// recordBytes is the size of one record.
const recordBytes = 32

// appendRecord adds the record of a sample.
func appendRecord(b []byte, o Outlier) []byte {
	for _, v := range [...]int{int(o.Class), o.Index, o.Source, o.Round, o.NoiseIndex, o.Rank} {
		b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
	}
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(o.KthDistance))
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(o.CosineToAnchor))
}

// recordOf is a sample without its embedding.
func recordOf(b []byte) Outlier {
	at := func(i int) int { return int(int32(binary.LittleEndian.Uint32(b[4*i:]))) }
	real := func(i int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])) }
	return Outlier{
		Class: uint32(at(0)), Index: at(1), Source: at(2), Round: at(3), NoiseIndex: at(4), Rank: at(5),
		KthDistance: real(6), CosineToAnchor: real(7),
	}
}
