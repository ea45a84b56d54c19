package dataset

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// numbered is a dataset of 1×1 pictures whose red and green give their
// position.
func numbered(t testing.TB, counts ...int) *Dataset {
	t.Helper()
	var labels []int32
	var classes []string
	for c, n := range counts {
		classes = append(classes, fmt.Sprintf("class %d", c))
		labels = append(labels, slices.Repeat([]int32{int32(c)}, n)...)
	}
	pixels := make([]uint8, 3*len(labels))
	for i := range labels {
		pixels[3*i], pixels[3*i+1] = uint8(i), uint8(i>>8)
	}
	d, err := FromPixels("numbered", classes, 1, pixels, labels, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func number(d *Dataset, i int) int { return int(d.Image(i)[0]) | int(d.Image(i)[1])<<8 }

func TestSplitIsStratifiedAndDisjoint(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		counts := rapid.SliceOfN(rapid.IntRange(2, 40), 2, 5).Draw(r, "counts")
		fraction := rapid.Float64Range(0.01, 0.99).Draw(r, "fraction")
		seed := rapid.Uint64().Draw(r, "seed")
		d := numbered(t, counts...)
		rest, held, err := Split(d, fraction, seed)
		if err != nil {
			r.Fatal(err)
		}
		seen := map[int]int32{}
		for _, part := range []*Dataset{rest, held} {
			for i := range part.Len() {
				if _, twice := seen[number(part, i)]; twice {
					r.Fatalf("picture %d is in both", number(part, i))
				}
				seen[number(part, i)] = part.Labels[i]
			}
		}
		for i, l := range d.Labels {
			if got, ok := seen[i]; !ok || got != l {
				r.Fatalf("picture %d is lost or has another label", i)
			}
		}
		for c, n := range held.Counts() {
			if exact := fraction * float64(counts[c]); n < 1 || n >= counts[c] || (n > 1 && n < counts[c]-1 && (float64(n) < exact-0.5 || float64(n) > exact+0.5)) {
				r.Fatalf("%d of %d held out for fraction %v", n, counts[c], fraction)
			}
		}
	})
}

func TestSplitIsAFunctionOfItsSeed(t *testing.T) {
	d := numbered(t, 30, 30)
	_, a, _ := Split(d, 0.3, 5)
	_, b, _ := Split(d, 0.3, 5)
	_, c, _ := Split(d, 0.3, 6)
	if a.Digest() != b.Digest() || a.Digest() == c.Digest() {
		t.Error("the seed does not decide the split")
	}
	if !slices.IsSorted(a.Labels) || slices.Equal(a.Labels, c.Labels) != true {
		t.Errorf("labels %v and %v", a.Labels, c.Labels)
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, fraction := range []float64{0, 1, -1, 2} {
		if _, _, err := Split(numbered(t, 3, 3), fraction, 1); err == nil {
			t.Errorf("fraction %v was taken", fraction)
		}
	}
	if _, _, err := Split(numbered(t, 3, 1), 0.5, 1); err == nil || !strings.Contains(err.Error(), "class 1 has one picture") {
		t.Errorf("error %v", err)
	}
}

func TestDigest(t *testing.T) {
	d := numbered(t, 3, 3)
	if got := d.Subset([]int{5, 4, 3, 2, 1, 0}).Digest(); got != d.Digest() {
		t.Error("the digest depends on the order of the pictures")
	}
	if d.Subset([]int{0, 1, 2, 3, 4}).Digest() == d.Digest() {
		t.Error("a lost picture leaves the digest as it was")
	}
	moved := *d
	moved.Labels = []int32{0, 0, 1, 1, 1, 1}
	if moved.Digest() == d.Digest() {
		t.Error("a changed label leaves the digest as it was")
	}
	if len(d.Digest()) != 64 {
		t.Error("not 64 digits")
	}
}

func TestFromPixelsReportsEveryMistake(t *testing.T) {
	_, err := FromPixels("x", []string{"a"}, 2000, make([]uint8, 5), []int32{0, 3}, []string{"one"})
	for _, want := range []string{"dataset x", "size is 2000", "5 bytes of pixels", "1 file names for 2 labels", "label 3 of picture 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := FromPixels("x", nil, 1, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "no pictures") {
		t.Errorf("error %v", err)
	}
}

func TestSubsetAndFloat32(t *testing.T) {
	d, err := FromPixels("x", []string{"a"}, 2, []uint8{
		0, 51, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9,
		10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
	}, []int32{0, 0}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 24)
	d.Float32(got, 1, 0)
	if diff := cmp.Diff([]float32{0, 1. / 255, 4. / 255, 7. / 255, 51. / 255}, got[12:17]); diff != "" {
		t.Error(diff)
	}
	if got[0] != 10./255 || got[4] != 11./255 {
		t.Error(got[:12])
	}
	s := d.Subset([]int{1})
	s.Pixels[0] = 99
	if d.Pixels[12] != 10 || s.Len() != 1 || s.Files[0] != "000001" {
		t.Error("a subset shares the pixels of its dataset")
	}
}
