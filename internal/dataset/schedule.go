package dataset

import (
	"slices"
	"sync"

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
	also    *Dataset // see LoaderConfig
	size    int      // of the pictures that it gives
	augment Augment
	seed    uint64
	purpose string
	fill    [3]float32
	round   int // of perm; -1 = none yet
	perm    []int
}

func newStream(d *Dataset, a Augment, seed uint64, purpose string, fill [3]float32) *stream {
	return &stream{data: d, size: d.Size, augment: a, seed: seed, purpose: purpose, fill: fill, round: -1}
}

// at returns which picture is at a place of a round.
func (s *stream) at(round, place int) int {
	if s.round != round {
		s.perm = philox.Perm(s.data.Len(), philox.Key{Seed: s.seed, Purpose: s.purpose + ".order", Index: uint64(round)})
		s.round = round
	}
	return s.perm[place]
}

// put writes picture i, which is at a place of a round, to dst, augmented. What it writes depends on the seed, the round
// and the place alone.
func (s *stream) put(dst []float32, i, round, place int) {
	key := philox.Key{Seed: s.seed, Purpose: s.purpose + ".augment", Index: uint64(round), Step: uint32(place)}
	d := s.augment.vary(s.size, key)
	src := s.data.Image(i)
	if s.also != nil || s.data.Size != s.size {
		key.Purpose = s.purpose + ".resize"
		var w [3]uint32
		philox.Uint32s(w[:], key)
		if s.also != nil && w[0]>>31 == 1 {
			src = s.also.Image(i)
		}
		src = window(src, s.data.Size, s.size, below(w[1], s.data.Size-s.size+1), below(w[2], s.data.Size-s.size+1))
	}
	if s.augment.Operations > 0 {
		key.Purpose = s.purpose + ".operations"
		src = s.augment.operate(src, s.size, key)
	}
	s.augment.apply(dst, src, s.size, d, s.fill)
}

// window is the part [size, size, 3] of a picture [edge, edge, 3] whose corner lies at (x, y).
func window(src []uint8, edge, size, x, y int) []uint8 {
	if edge == size {
		return src
	}
	out := make([]uint8, 0, 3*size*size)
	for row := y; row < y+size; row++ {
		out = append(out, src[3*(row*edge+x):][:3*size]...)
	}
	return out
}

// schedule says what the batch of every step is: a pure function of the seed
// and the step, so that a training that is resumed sees what it would have.
type schedule struct {
	id, outliers *stream // outliers may be nil
	steps        int     // per epoch
	workers      int     // goroutines of fill
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
		j := s.id.at(b.Epoch, first+i)
		b.Indices[i], b.Labels[i] = j, s.id.data.Labels[j]
	}
	for i := range b.Outlier {
		round, place := s.outlierAt(step, len(b.Outlier), i)
		b.Outlier[i] = s.outliers.at(round, place)
	}
	parallel(s.workers, len(b.Labels)+len(b.Outlier), func(row int) {
		if i := row - len(b.Labels); i >= 0 {
			round, place := s.outlierAt(step, len(b.Outlier), i)
			s.outliers.put(b.Outliers[i*n:(i+1)*n], b.Outlier[i], round, place)
			return
		}
		s.id.put(b.Images[row*n:(row+1)*n], b.Indices[row], b.Epoch, first+row)
	})
}

// outlierAt is where outlier i of a step lies.
func (s *schedule) outlierAt(step, batch, i int) (round, place int) {
	at, total := step*batch+i, s.outliers.data.Len()
	return at / total, at % total
}

// parallel calls do for 0 to n-1 from so many goroutines, each with a part of its own.
func parallel(workers, n int, do func(i int)) {
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w * n / workers; i < (w+1)*n/workers; i++ {
				do(i)
			}
		})
	}
	group.Wait()
}
