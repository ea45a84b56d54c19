package generator

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/bits"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

func TestGateDefaultsAndBounds(t *testing.T) {
	if g, err := gateOf(nil); g != nil || err != nil {
		t.Errorf("no gate became %v, %v", g, err)
	}
	g, err := gateOf(&generatorv1.Gate{})
	if want := (Gate{MaxConfidence: 1, LeakConfidence: 1, K: 1, DuplicateBits: -1, MinContrast: 4, MaxAttempts: 4}); err != nil || *g != want {
		t.Errorf("%+v, %v", g, err)
	}
	if again, err := gateOf(g.message()); err != nil || *again != *g {
		t.Errorf("with its defaults it became %+v, %v", again, err)
	}
	for field, q := range map[string]*generatorv1.Gate{
		"gate.detector":        {MinConfidence: 0.5},
		"gate.min_confidence":  {Detector: "detectors/d", MinConfidence: 0.9, MaxConfidence: 0.5},
		"gate.max_confidence":  {Detector: "detectors/d", MaxConfidence: 1.5},
		"gate.leak_confidence": {Detector: "detectors/d", LeakConfidence: math.NaN()},
		"gate.leak_quantile":   {LeakQuantile: 1},
		"gate.k":               {K: -1},
		"gate.duplicate_bits":  {DuplicateBits: proto.Int32(33)},
		"gate.min_contrast":    {MinContrast: 200},
		"gate.max_attempts":    {MaxAttempts: 101},
	} {
		_, err := gateOf(q)
		var f *fault.Error
		if !errors.As(err, &f) || !slices.ContainsFunc(f.Violations, func(v fault.Violation) bool { return v.Field == field }) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestGateRefuses(t *testing.T) {
	g := Gate{Detector: "detectors/d", MinConfidence: 0.2, MaxConfidence: 0.9, LeakConfidence: 0.6, LeakQuantile: 0.5, MinContrast: 4, DuplicateBits: -1}
	good := Measured{Contrast: 30, Class: "cat", Confidence: 0.5, Quantile: 0.8}
	change := func(f func(*Measured)) Measured { m := good; f(&m); return m }
	for _, c := range []struct {
		m    Measured
		want string
	}{
		{good, ""},
		{Measured{Broken: true}, refusedBroken},
		{change(func(m *Measured) { m.Contrast = 3 }), refusedBlank},
		{change(func(m *Measured) { m.Confidence = 0.61 }), refusedLeakConfidence},
		{change(func(m *Measured) { m.Confidence, m.Class = 0.61, "dog" }), ""},
		{change(func(m *Measured) { m.Quantile = 0.49 }), refusedLeakDistance},
		{change(func(m *Measured) { m.Confidence = 0.19 }), refusedLowConfidence},
		{change(func(m *Measured) { m.Confidence, m.Class = 0.91, "dog" }), refusedHighConfidence},
	} {
		if got := g.refuse("cat", c.m); got != c.want {
			t.Errorf("%+v: %q, want %q", c.m, got, c.want)
		}
	}
	if got := (Gate{MaxConfidence: 1, LeakConfidence: 1, MinContrast: -1}).refuse("cat", Measured{}); got != "" {
		t.Errorf("a gate that takes all refuses for %q", got)
	}
}

// TestBlocksShareTheCandidates has every candidate of a class in one block, and no more of them than the limit allows.
func TestBlocksShareTheCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perClass, attempts := rapid.IntRange(1, 300).Draw(t, "per class"), rapid.IntRange(1, 100).Draw(t, "attempts")
		labels := []int{4, 1}
		used, quota := map[string]bool{}, map[int]int{}
		for _, b := range blocksOf(perClass, labels) {
			quota[b.label] += b.quota
			for k := 0; k < b.quota*attempts; k++ {
				s := b.candidates(k, 1, attempts)
				key := fmt.Sprint(s.label, "/", s.first)
				if used[key] || s.first >= perClass*attempts {
					t.Fatalf("candidate %s comes twice, or is beyond the limit of %d", key, perClass*attempts)
				}
				used[key] = true
			}
		}
		if len(used) != 2*perClass*attempts || quota[4] != perClass || quota[1] != perClass {
			t.Fatalf("%d candidates, quotas %v of %d", len(used), quota, perClass)
		}
	})
}

// drawn is a PNG of a function of the place, 0 to 1.
func drawn(t *testing.T, size int, f func(x, y float64) float64) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			v := uint8(255 * max(0, min(1, f(float64(x)/float64(size), float64(y)/float64(size)))))
			img.Set(x, y, color.NRGBA{v, v, v, 255})
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestLookAtPictures(t *testing.T) {
	waves := func(x, y float64) float64 { return 0.5 + 0.3*math.Sin(9*x+4*y) + 0.15*math.Cos(13*y-5*x) }
	hash := func(file []byte) uint64 {
		h, _, err := look(file)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(drawn(t, 32, waves))
	for name, c := range map[string]struct {
		file   []byte
		within int
	}{
		"itself":        {drawn(t, 32, waves), 0},
		"brighter":      {drawn(t, 32, func(x, y float64) float64 { return waves(x, y) + 0.03 }), 2},
		"less contrast": {drawn(t, 32, func(x, y float64) float64 { return 0.25 + 0.5*waves(x, y) }), 2},
		"larger":        {drawn(t, 96, waves), 4},
	} {
		if d := bits.OnesCount64(first ^ hash(c.file)); d > c.within {
			t.Errorf("%s: %d bits differ, want at most %d", name, d, c.within)
		}
	}
	mirrored := hash(drawn(t, 32, func(x, y float64) float64 { return waves(1-x, y) }))
	if d := bits.OnesCount64(first ^ mirrored); d < 20 {
		t.Errorf("a mirrored picture differs in %d bits only", d)
	}
	_, flat, err := look(drawn(t, 32, func(float64, float64) float64 { return 0.5 }))
	if err != nil || flat != 0 {
		t.Errorf("a flat picture has the contrast %g, %v", flat, err)
	}
	_, halves, err := look(drawn(t, 32, func(x, _ float64) float64 { return math.Round(x) }))
	if err != nil || math.Abs(halves-127.5) > 0.1 {
		t.Errorf("half black, half white has the contrast %g, %v; want 127.5", halves, err)
	}
	if _, _, err := look([]byte("no picture")); err == nil {
		t.Error("no picture was looked at")
	}
	s := seen{bits: 2, hashes: []uint64{0}}
	for h, want := range map[uint64]bool{0: true, 3: true, 7: false} {
		if s.duplicate(h) != want {
			t.Errorf("%b near 0: %v", h, !want)
		}
	}
	if (&seen{bits: -1, hashes: []uint64{0}}).duplicate(0) {
		t.Error("duplicates are looked for where none are asked for")
	}
}
