package dataset

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/philox"
	"github.com/google/go-cmp/cmp"
)

// drain runs a loader to its end.
func drain(t *testing.T, id, outliers *Dataset, c LoaderConfig) []*Batch {
	t.Helper()
	l, err := NewLoader(id, outliers, c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []*Batch
	for {
		b, err := l.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Clone())
	}
}

func TestLoaderEpochs(t *testing.T) {
	id := numbered(t, 6, 5)
	all := drain(t, id, nil, LoaderConfig{Batch: 4, Epochs: 3, Seed: 1})
	if len(all) != 6 {
		t.Fatalf("%d batches, want 2 per epoch", len(all))
	}
	for e := range 3 {
		seen := slices.Concat(all[2*e].Indices, all[2*e+1].Indices)
		slices.Sort(seen)
		if len(slices.Compact(seen)) != 8 {
			t.Errorf("epoch %d repeats a picture: %v", e, seen)
		}
	}
	for step, b := range all {
		if b.Step != step || b.Epoch != step/2 {
			t.Errorf("step %d of epoch %d, want %d of %d", b.Step, b.Epoch, step, step/2)
		}
		for i, j := range b.Indices {
			if b.Labels[i] != id.Labels[j] || b.Images[3*i] != float32(j)/255 {
				t.Errorf("step %d: picture %d has label %d and red %v", step, j, b.Labels[i], b.Images[3*i])
			}
		}
	}
	if slices.Equal(all[0].Indices, all[2].Indices) {
		t.Error("two epochs have one order")
	}
}

// TestOutliersNeverShortenAnEpoch: 3 outliers beside 40 ID pictures.
func TestOutliersNeverShortenAnEpoch(t *testing.T) {
	all := drain(t, numbered(t, 20, 20), numbered(t, 3), LoaderConfig{Batch: 10, OutlierBatch: 4, Epochs: 2, Seed: 1})
	if len(all) != 8 {
		t.Fatalf("%d batches, want 8", len(all))
	}
	var seen []int
	for _, b := range all {
		if len(b.Outliers) != 4*3 {
			t.Fatalf("%d floats of outliers", len(b.Outliers))
		}
		seen = append(seen, b.Outlier...)
	}
	for i := 0; i+3 <= len(seen); i += 3 { // each cycle shows each outlier once
		cycle := slices.Sorted(slices.Values(seen[i : i+3]))
		if diff := cmp.Diff([]int{0, 1, 2}, cycle); diff != "" {
			t.Errorf("cycle %d: %s", i/3, diff)
		}
	}
}

func TestLoaderIsAFunctionOfSeedAndStep(t *testing.T) {
	id, outliers := squares(t, 12), squares(t, 5)
	c := LoaderConfig{Batch: 4, OutlierBatch: 3, Epochs: 3, Seed: 9, Augment: Augment{Pad: 2, Flip: true, Cutout: 3}}
	all := drain(t, id, outliers, c)
	if diff := cmp.Diff(all, drain(t, id, outliers, c)); diff != "" {
		t.Error("the same seed gives other batches")
	}
	resumed := c
	resumed.FirstStep, resumed.Ahead = 5, 7
	if diff := cmp.Diff(all[5:], drain(t, id, outliers, resumed)); diff != "" {
		t.Error("a resumed loader gives other batches")
	}
	c.Seed = 10
	if cmp.Diff(all[0].Images, drain(t, id, outliers, c)[0].Images) == "" {
		t.Error("another seed gives the same batch")
	}
}

// squares is n pictures of 8×8 in which every pixel is different.
func squares(t *testing.T, n int) *Dataset {
	t.Helper()
	pixels := make([]uint8, n*8*8*3)
	for i := range pixels {
		pixels[i] = uint8(i * 7)
	}
	d, err := FromPixels("squares", []string{"a", "b"}, 8, pixels, make([]int32, n), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLoaderReportsEveryMistake(t *testing.T) {
	_, err := NewLoader(numbered(t, 3), squares(t, 2), LoaderConfig{Batch: 9, Epochs: -1, Augment: Augment{Pad: 1, Cutout: 2}})
	for _, want := range []string{"negative", "a batch of 9 from 3 pictures", "padding is 1", "cutout is 2", "outliers of 8 pixels beside pictures of 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := NewLoader(nil, nil, LoaderConfig{}); err == nil {
		t.Error("no error without pictures")
	}
}

func TestLoaderLife(t *testing.T) { // TestMain looks for goroutines left over
	l, err := NewLoader(numbered(t, 8), nil, LoaderConfig{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Next(t.Context()); err == nil {
		t.Error("Next before Start gives a batch")
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(ctx); err == nil {
		t.Error("started twice")
	}
	for range 20 { // without end: more than one epoch
		if _, err := l.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for range 4 { // what was prepared, then the reason
		if _, err = l.Next(t.Context()); err != nil {
			break
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the context was cancelled", err)
	}
	l.Close()
	l.Close()
	unused, err := NewLoader(numbered(t, 8), nil, LoaderConfig{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	unused.Close()
}

// TestAugmentAgainstNumPy compares every crop with windows of a picture that
// numpy.pad extended by reflection.
func TestAugmentAgainstNumPy(t *testing.T) {
	r := readRecorded(t)
	size, wide := r.Pictures[0].Size, r.Pictures[0].Size+8
	a := Augment{Pad: 4, Flip: true}
	got := make([]float32, 3*size*size)
	for dy := -4; dy <= 4; dy++ {
		for dx := -4; dx <= 4; dx++ {
			for _, flip := range []bool{false, true} {
				a.apply(got, r.Pictures[0].RGB, size, variation{dx: dx, dy: dy, flip: flip}, [3]float32{})
				for i := range got {
					c, y, x := i/(size*size), i/size%size, i%size
					if flip {
						x = size - 1 - x
					}
					want := float32(r.Reflect4[3*((y+4+dy)*wide+x+4+dx)+c]) / 255
					if got[i] != want {
						t.Fatalf("crop %d,%d flip %v: element %d is %v, want %v", dx, dy, flip, i, got[i], want)
					}
				}
			}
		}
	}
}

func TestAugmentDrawsEverything(t *testing.T) {
	a := Augment{Pad: 4, Flip: true, Cutout: 8}
	const n = 9000
	dx, dy, flips := map[int]int{}, map[int]int{}, 0
	for i := range n {
		v := a.vary(32, philox.Key{Seed: 3, Index: uint64(i)})
		dx[v.dx]++
		dy[v.dy]++
		if v.flip {
			flips++
		}
		if v.cx < 0 || v.cx > 31 || v.cy < 0 || v.cy > 31 {
			t.Fatalf("cutout at %d,%d", v.cx, v.cy)
		}
	}
	// Expected 1000 of each shift and 4500 flips; 5 standard deviations are
	// 150 and 240.
	for s := -4; s <= 4; s++ {
		if dx[s] < 850 || dx[s] > 1150 || dy[s] < 850 || dy[s] > 1150 {
			t.Errorf("shift %d was drawn %d and %d times", s, dx[s], dy[s])
		}
	}
	if len(dx) != 9 || len(dy) != 9 || flips < 4260 || flips > 4740 {
		t.Errorf("%d and %d shifts, %d flips", len(dx), len(dy), flips)
	}
}

func TestCutout(t *testing.T) {
	src := make([]uint8, 3*8*8)
	a := Augment{Cutout: 4}
	for _, c := range []struct{ cx, cy, want int }{{4, 4, 16}, {0, 0, 4}, {7, 4, 12}} {
		got := make([]float32, len(src))
		a.apply(got, src, 8, variation{cx: c.cx, cy: c.cy}, [3]float32{0.25, 0.5, 0.75})
		for ch, fill := range []float32{0.25, 0.5, 0.75} {
			n := 0
			for _, v := range got[ch*64 : (ch+1)*64] {
				if v == fill {
					n++
				}
			}
			if n != c.want {
				t.Errorf("cutout at %d,%d covers %d of channel %d, want %d", c.cx, c.cy, n, ch, c.want)
			}
		}
	}
}

func BenchmarkLoader(b *testing.B) {
	pixels := make([]uint8, 1024*32*32*3)
	d, err := FromPixels("bench", []string{"a"}, 32, pixels, make([]int32, 1024), nil)
	if err != nil {
		b.Fatal(err)
	}
	l, err := NewLoader(d, nil, LoaderConfig{Batch: 256, Augment: Standard()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := l.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
