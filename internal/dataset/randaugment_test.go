package dataset

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOperationsAgainstPillow: tools/vectors/augment.py. Every byte is equal.
func TestOperationsAgainstPillow(t *testing.T) {
	raw, err := os.ReadFile("testdata/operations.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]string
	if err := json.Unmarshal(raw, &recorded); err != nil {
		t.Fatal(err)
	}
	const size = 24
	src := make([]uint8, 3*size*size)
	for i := range src {
		src[i] = uint8((i*i*7 + i*31) % 253)
	}
	given := slices.Clone(src)
	for _, o := range operations {
		for _, sign := range []float64{1, -1} {
			key := fmt.Sprintf("%s %g", o.name, sign)
			want, err := hex.DecodeString(recorded[key])
			if err != nil || len(want) != len(src) {
				t.Fatalf("%s is not recorded: %v", key, err)
			}
			got, off := o.do(src, size, 0.7, sign), 0
			for i := range got {
				if got[i] != want[i] {
					off++
				}
			}
			if off > 0 {
				t.Errorf("%s: %d of %d bytes differ", key, off, len(got))
			}
		}
	}
	if !slices.Equal(src, given) {
		t.Error("an operation changed its source")
	}
}

// TestWorkersGiveTheSameBatches, with all options at once.
func TestWorkersGiveTheSameBatches(t *testing.T) {
	id, outliers := squares(t, 12), squares(t, 5)
	also := squares(t, 5)
	for i := range also.Pixels {
		also.Pixels[i] ^= 0xff
	}
	c := LoaderConfig{Batch: 4, OutlierBatch: 3, Epochs: 3, Seed: 9, Augment: Augment{Pad: 2, Flip: true, Cutout: 3, Operations: 2, Magnitude: 9}, Also: also, Workers: 1}
	one := drain(t, id, outliers, c)
	c.Workers = 5
	if cmp.Diff(one, drain(t, id, outliers, c)) != "" {
		t.Error("five workers give other batches than one")
	}
	c.Augment.Operations, c.Augment.Magnitude = 0, 0
	if cmp.Diff(one[0].Images, drain(t, id, outliers, c)[0].Images) == "" {
		t.Error("operations change nothing")
	}
}

// TestAlsoIsDrawnHalfOfTheTime, and nothing else changes.
func TestAlsoIsDrawnHalfOfTheTime(t *testing.T) {
	dark, bright := numbered(t, 1), numbered(t, 1)
	for i := range bright.Pixels {
		dark.Pixels[i], bright.Pixels[i] = 0, 255
	}
	n, of := 0, 0
	for _, b := range drain(t, numbered(t, 10), dark, LoaderConfig{Batch: 10, OutlierBatch: 10, Epochs: 100, Also: bright}) {
		for i := 0; i < len(b.Outliers); i += 3 {
			of++
			if b.Outliers[i] == 1 {
				n++
			}
		}
	}
	if of != 1000 || n < 420 || n > 580 { // 5 standard deviations
		t.Errorf("the other filter was drawn %d times of %d", n, of)
	}
}

// TestCropTakesParts of larger outliers: every corner occurs, and the pixels are those of the picture.
func TestCropTakesParts(t *testing.T) {
	small, large := numbered(t, 4), squares(t, 1) // 1 and 8 pixels
	seen := map[float32]bool{}
	for _, b := range drain(t, small, large, LoaderConfig{Batch: 4, OutlierBatch: 64, Epochs: 20, Crop: true}) {
		for i := 0; i < len(b.Outliers); i += 3 {
			seen[b.Outliers[i]] = true
		}
	}
	want := map[float32]bool{}
	for i := 0; i < len(large.Pixels); i += 3 {
		want[float32(large.Pixels[i])/255] = true
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the parts of the picture: %s", diff)
	}
	if _, err := NewLoader(large, small, LoaderConfig{Batch: 1, Crop: true}); err == nil {
		t.Error("outliers that are smaller than the part were taken")
	}
}
