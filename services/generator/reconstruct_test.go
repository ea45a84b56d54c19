package generator

import (
	"bytes"
	"image/png"
	"math"
	"testing"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// TestReconstructImages passes real pictures through the reference model's VAE, over gRPC: they come back in order, alike
// but softer, and a second time the same.
func TestReconstructImages(t *testing.T) {
	l := openLive(t, Limits{})
	ds, err := dataset.Open(t.Context(), "../../sample/cifar10_test.zip", dataset.Options{Size: 32, PerClass: 1})
	if err != nil {
		t.Fatal(err)
	}
	q := &generatorv1.ReconstructImagesRequest{}
	for i := range ds.Len() {
		file, err := dataset.EncodePNG(ds.Image(i), ds.Size)
		if err != nil {
			t.Fatal(err)
		}
		q.Images = append(q.Images, file)
	}
	r, err := l.client.ReconstructImages(t.Context(), q)
	if err != nil || len(r.GetImages()) != ds.Len() {
		t.Fatalf("%d pictures of %d, %v", len(r.GetImages()), ds.Len(), err)
	}
	again, err := l.client.ReconstructImages(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var before, after float64
	for i, file := range r.Images {
		if !bytes.Equal(file, again.Images[i]) {
			t.Errorf("picture %d comes back different the second time", i)
		}
		if _, err := png.Decode(bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		made, err := dataset.Decode(t.Context(), "made", file, dataset.Options{Size: 32})
		if err != nil {
			t.Fatal(err)
		}
		if e := distance(made, ds.Image(i)); e == 0 || e > 20 || e > distance(made, ds.Image((i+1)%ds.Len())) {
			t.Errorf("picture %d came back %.1f grey levels off", i, e)
		}
		before, after = before+sharpness(ds.Image(i), 32), after+sharpness(made, 32)
	}
	if !(after < 0.95*before) {
		t.Errorf("differences of neighbours are %.0f before, %.0f after; the VAE softens", before, after)
	}
	for name, bad := range map[string]*generatorv1.ReconstructImagesRequest{
		"none": {}, "no picture": {Images: [][]byte{[]byte("hello")}}, "no model": {Model: "none", Images: q.Images},
	} {
		if _, err := l.client.ReconstructImages(t.Context(), bad); fault.ReasonOf(err) != fault.InvalidArgument && fault.ReasonOf(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// distance is the root mean square of the differences in grey levels.
func distance(a, b []uint8) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(a)))
}

// sharpness is the sum of the differences of pixels side by side.
func sharpness(a []uint8, size int) float64 {
	sum := 0.0
	for i := 3; i < len(a); i++ {
		if i/3%size != 0 {
			sum += math.Abs(float64(a[i]) - float64(a[i-3]))
		}
	}
	return sum
}
