package generator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Gate says which pictures a set takes; see Gate in generator.proto. All is set.
type Gate struct {
	Detector       string // "" measures no confidence
	MinConfidence  float64
	MaxConfidence  float64
	LeakConfidence float64 // 1 takes all
	LeakQuantile   float64
	K              int
	DuplicateBits  int // −1 takes all
	MinContrast    float64
	MaxAttempts    int
}

// Why pictures are refused; see Judgement in generator.proto.
const (
	refusedBroken         = "broken"
	refusedBlank          = "blank"
	refusedLowConfidence  = "low_confidence"
	refusedHighConfidence = "high_confidence"
	refusedLeakConfidence = "leak_confidence"
	refusedLeakDistance   = "leak_distance"
	refusedDuplicate      = "duplicate"
)

// Measured is what is known of a candidate.
type Measured struct {
	Broken   bool // numbers that are not finite: nothing else is known
	Contrast float64
	Hash     uint64 // dHash

	Class      string // that the detector gives it
	Confidence float64
	Score      float64

	Distance float64 // L2, to the K-th neighbour in the bank
	Quantile float64 // share of the bank that is nearer to the rest of it
	Nearest  string  // class of the nearest embedding of the bank
}

// refuse is why a candidate of a class is refused, leaving duplicates aside; "" takes it. The first reason counts.
func (g Gate) refuse(class string, m Measured) string {
	judged := g.Detector != ""
	switch {
	case m.Broken:
		return refusedBroken
	case m.Contrast < g.MinContrast:
		return refusedBlank
	case judged && m.Class == class && m.Confidence > g.LeakConfidence:
		return refusedLeakConfidence
	case m.Quantile < g.LeakQuantile:
		return refusedLeakDistance
	case judged && m.Confidence < g.MinConfidence:
		return refusedLowConfidence
	case judged && m.Confidence > g.MaxConfidence:
		return refusedHighConfidence
	}
	return ""
}

// gateBlock is the pictures of a class that are chosen together. A set is what its blocks are, and a shard is whole
// blocks, so the pictures do not depend on how many shards there are and who renders them.
const gateBlock = 32

// block is a part of what is wanted of a class. Its candidates are those with the indices [first·a, (first+quota)·a) of
// the class, a being Gate.MaxAttempts; they are tried in this order until quota of them are taken.
type block struct {
	label        int
	first, quota int
}

// blocksOf cuts classes of perClass pictures.
func blocksOf(perClass int, labels []int) []block {
	var out []block
	for _, label := range labels {
		for first := 0; first < perClass; first += gateBlock {
			out = append(out, block{label, first, min(gateBlock, perClass-first)})
		}
	}
	return out
}

// candidates are the n of a block from its k-th on.
func (b block) candidates(k, n, attempts int) segment {
	return segment{label: b.label, first: b.first*attempts + k, count: n}
}

// tally is what became of the candidates of a block or class.
type tally struct {
	Tried   int            `json:"tried"`
	Taken   int            `json:"taken"`
	Refused map[string]int `json:"refused,omitempty"`
}

func (t *tally) add(o tally) {
	t.Tried, t.Taken = t.Tried+o.Tried, t.Taken+o.Taken
	for reason, n := range o.Refused {
		t.refuse(reason, n)
	}
}

func (t *tally) refuse(reason string, n int) {
	if t.Refused == nil {
		t.Refused = map[string]int{}
	}
	t.Refused[reason] += n
}

// String is the reasons, the most frequent first.
func (t tally) String() string {
	reasons := slices.SortedFunc(maps.Keys(t.Refused), func(a, b string) int {
		if d := t.Refused[b] - t.Refused[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%s %d", r, t.Refused[r])
	}
	return strings.Join(reasons, ", ")
}

// next is how many candidates are rendered together when want more are to be taken of left: about as many as that needs
// by what was taken so far, at most a batch.
func (t tally) next(want, left, batch int) int {
	n := want
	if t.Tried > 0 && t.Taken < t.Tried {
		n = (want*t.Tried + t.Taken) / max(t.Taken, 1)
	}
	return max(1, min(n, left, batch))
}
