package dataset

import (
	"slices"

	"github.com/dreamood/dreamood/internal/philox"
)

// Batch is one training step's pictures, as floats in [0, 1]. The loader owns
// it: it is good until the next call of Next or Close.
type Batch struct {
	Step     int       // counted from the start of the training, 0 first
	Epoch    int       // over the ID pictures
	Images   []float32 // [Batch, 3, Size, Size]
	Labels   []int32   // [Batch]
	Indices  []int     // [Batch] positions in the ID dataset
	Outliers []float32 // [OutlierBatch, 3, Size, Size]; empty without outliers
	Outlier  []int     // [OutlierBatch] positions in the outlier dataset
}

// Clone copies a batch, to keep it.
func (b *Batch) Clone() *Batch {
	c := *b
	c.Images, c.Labels, c.Indices = slices.Clone(b.Images), slices.Clone(b.Labels), slices.Clone(b.Indices)
	c.Outliers, c.Outlier = slices.Clone(b.Outliers), slices.Clone(b.Outlier)
	return &c
}

// stream is an endless sequence of augmented pictures of one dataset: round
// after round, each a fresh permutation of all pictures.
type stream struct {
	data    *Dataset
	augment Augment
	seed    uint64
	purpose string
	fill    [3]float32
	round   int // of perm; -1 = none yet
	perm    []int
}

func newStream(d *Dataset, a Augment, seed uint64, purpose string, fill [3]float32) *stream {
	return &stream{data: d, augment: a, seed: seed, purpose: purpose, fill: fill, round: -1}
}

// at returns which picture is at a place of a round.
func (s *stream) at(round, place int) int {
	if s.round != round {
		s.perm = philox.Perm(s.data.Len(), philox.Key{Seed: s.seed, Purpose: s.purpose + ".order", Index: uint64(round)})
		s.round = round
	}
	return s.perm[place]
}

// put writes the picture at a place of a round to dst, augmented, and returns
// which one it is. It depends on the seed, the round and the place alone.
func (s *stream) put(dst []float32, round, place int) int {
	i := s.at(round, place)
	d := s.augment.vary(s.data.Size, philox.Key{Seed: s.seed, Purpose: s.purpose + ".augment", Index: uint64(round), Step: uint32(place)})
	s.augment.apply(dst, s.data.Image(i), s.data.Size, d, s.fill)
	return i
}

// schedule says what the batch of every step is: a pure function of the seed
// and the step, so that a training that is resumed sees what it would have.
type schedule struct {
	id, outliers *stream // outliers may be nil
	steps        int     // per epoch
}

// fill makes the batch of one step.
//
// The ID pictures of an epoch are full batches of a permutation; the few that
// do not fill one more are left to other epochs. The outliers run on without
// regard to epochs and begin again when all were seen, so that a small outlier
// set never shortens an epoch (in the published code it does).
func (s *schedule) fill(b *Batch, step int) {
	b.Step, b.Epoch = step, step/s.steps
	first := step % s.steps * len(b.Labels)
	n := len(b.Images) / len(b.Labels)
	for i := range b.Labels {
		j := s.id.put(b.Images[i*n:(i+1)*n], b.Epoch, first+i)
		b.Indices[i], b.Labels[i] = j, s.id.data.Labels[j]
	}
	for i := range b.Outlier {
		at := step*len(b.Outlier) + i
		total := s.outliers.data.Len()
		b.Outlier[i] = s.outliers.put(b.Outliers[i*n:(i+1)*n], at/total, at%total)
	}
}
