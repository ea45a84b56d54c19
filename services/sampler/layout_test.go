package sampler

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLayoutSamplesEverythingOnce cuts sets of any size and goes through their shards.
func TestLayoutSamplesEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		classes, perClass := rapid.IntRange(1, 1200).Draw(t, "classes"), rapid.IntRange(1, 5000).Draw(t, "per class")
		if rapid.Bool().Draw(t, "few classes") {
			classes = 1 + classes%12
		}
		size := rapid.IntRange(1, 3000).Draw(t, "shard size")
		perRound := rapid.SliceOfN(rapid.IntRange(1, 400), classes, classes).Draw(t, "per round")
		fewest := roundsOf(perClass, slices.Max(perRound))
		l := layoutOf(classes, perClass, size, fewest)
		if l.shards < 1 || l.shards > maxShards {
			t.Fatalf("%d shards", l.shards)
		}
		class, index := 0, 0
		for shard := range l.shards {
			pieces := l.pieces(shard)
			if len(pieces) == 0 {
				t.Fatalf("shard %d of %d is empty", shard, l.shards)
			}
			for _, p := range pieces {
				from, to := l.samples(p, perRound[p.class])
				if p.class != class || from != index || to <= from || to > perClass {
					t.Fatalf("shard %d has samples [%d, %d) of class %d; next is %d of class %d", shard, from, to, p.class, index, class)
				}
				if from%perRound[p.class] != 0 || to%perRound[p.class] != 0 && to != perClass {
					t.Fatalf("shard %d cuts a round of %d: [%d, %d)", shard, perRound[p.class], from, to)
				}
				if p.of > 1 && len(pieces) > 1 {
					t.Fatalf("shard %d has parts of several classes: %v", shard, pieces)
				}
				if index = to; to == perClass {
					class, index = class+1, 0
				}
			}
		}
		if class != classes || index != 0 {
			t.Fatalf("the shards end at class %d of %d, index %d", class, classes, index)
		}
	})
}

func TestLayoutSizes(t *testing.T) {
	for _, c := range []struct{ classes, perClass, rounds, shards int }{
		{100, 50, 1, 1},               // 5,000 in all
		{100, 1000, 10, 10},           // whole classes together
		{100, 10_000, 100, 100},       // a class each
		{10, 100_000, 1000, 100},      // ten parts of each class
		{100, 1_000_000, 10_000, 500}, // as many as there may be
		{300, 1_000_000, 10_000, 300}, // two parts would be too many
		{1000, 100_000, 1000, 512},    // more classes than shards
		{1, 1_000_000, 10_000, 100},   // one class
		{1, 100_000, 2, 2},            // no more parts than rounds
		{1, 1, 1, 1}, {1000, 1, 1, 1}, //
		{7, 20_000, 10, 14}, {7, 3, 3, 1}, //
	} {
		if l := layoutOf(c.classes, c.perClass, 10_000, c.rounds); l.shards != c.shards {
			t.Errorf("%d classes of %d: %d shards, want %d", c.classes, c.perClass, l.shards, c.shards)
		}
	}
}
