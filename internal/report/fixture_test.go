package report

import (
	"archive/zip"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"testing"
	"time"
)

// fixture is a page of the demo's size made of a seed: ten classes, synthetic scores with a known separation.
// pictures gives n pictures of a class.
func fixture(pictures func(class string, n int) [][]byte) Page {
	rng := rand.New(rand.NewPCG(1, 2))
	p := Page{
		Title: "Imagined outliers for CIFAR-10", Subtitle: "Dream-OOD in one process: embedding space, sampler, diffusion model, detector",
		Generated: time.Date(2026, 11, 23, 18, 40, 0, 0, time.UTC), Version: "0.1.0",
		Space: Space{Model: "reference", Accuracy: 0.712, Dimension: 192, Bank: 5000},
		Settings: []Table{
			{"Sampling", []KV{{"mode", "paper"}, {"K", "100"}, {"σ", "0.07"}, {"seed", "1"}}},
			{"Rendering", []KV{{"scheduler", "DDIM, 20 steps"}, {"guidance scale", "3.0"}}},
			{"Training", []KV{{"epochs", "12"}, {"β", "2.5"}, {"batch", "128 ID + 128 outliers"}}},
		},
		Provenance: []KV{{"dataset", "sha256:52c02f3d3ec1b0e11c1d0f4d71e7a4d0c7c0a9b7e1f51c8d2f6f84b2a0c4c9f1"}, {"diffusion model", "models/reference"}},
		Timings:    []KV{{"space", "41 s"}, {"sampling", "1.2 s"}, {"rendering", "95 s"}, {"detectors", "74 s"}},
		Notes:      []string{"5,000 training pictures, JPEG quality 92: less than the full set, so accuracy is below published figures.", "The diffusion model was trained on CIFAR-10 and CIFAR-100 and has seen pictures like those of the set cifar100."},
	}
	names := []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
	for i, name := range names {
		c := Class{Name: name, Inliers: pictures(name, 8), Words: pictures(name, 4)}
		for j, data := range pictures("outliers of "+name, 28) {
			c.Outliers = append(c.Outliers, Picture{data, 0.9 + 0.1*rng.NormFloat64(), 0.45 + 0.05*rng.NormFloat64(), i*100 + j})
		}
		p.Classes = append(p.Classes, c)
		p.Map.add(rng, i, len(names))
	}
	p.Map.Explained = [2]float64{0.214, 0.163}
	for s := 10; s <= 480; s += 10 {
		p.Space.Loss = append(p.Space.Loss, CurvePoint{s, 0.8 + 1.5*math.Exp(-float64(s)/150) + 0.04*rng.NormFloat64()})
	}
	p.Detectors = []Detector{fixtureDetector(rng, "plain", 0, 0.743), fixtureDetector(rng, "with imagined outliers", 0.35, 0.738)}
	return p
}

// add puts a class on a ring: ID points, outliers around them, an anchor further out.
func (m *Map) add(rng *rand.Rand, class, classes int) {
	at := 2 * math.Pi * float64(class) / float64(classes)
	x, y := math.Cos(at), math.Sin(at)
	for range 200 {
		m.Points = append(m.Points, MapPoint{0.6*x + 0.13*rng.NormFloat64(), 0.45*y + 0.13*rng.NormFloat64(), class, false})
	}
	for range 40 {
		m.Points = append(m.Points, MapPoint{0.45*x + 0.25*rng.NormFloat64(), 0.35*y + 0.25*rng.NormFloat64(), class, true})
	}
	m.Anchors = append(m.Anchors, Anchor{0.9 * x, 0.7 * y, class})
}

func fixtureDetector(rng *rand.Rand, name string, gain, accuracy float64) Detector {
	d := Detector{Name: name, Accuracy: accuracy, IDCount: 2000, Threshold: 3.1}
	for range 1000 {
		d.IDScores = append(d.IDScores, float32(6+gain+1.8*rng.NormFloat64()))
	}
	for _, set := range []struct {
		name, apart string
		n           int
		mean, gain  float64
	}{{"scenes", "", 800, 4.2, -1}, {"textures", "", 600, 3.6, -1.4}, {"tiny-imagenet", "", 800, 4.6, 0.5},
		{"cifar100", "the diffusion model has seen such pictures", 1000, 4.8, 0}, {"mnist", "grey digits, easy to tell", 500, 1.2, 0.8}} {
		var scores []float32
		for range set.n {
			scores = append(scores, float32(set.mean+gain*(1+2*set.gain)+1.9*rng.NormFloat64()))
		}
		d.OOD = append(d.OOD, fixtureResult(set.name, set.apart, d.IDScores, scores))
	}
	for s := 5; s <= 480; s += 5 {
		ce, ood := 0.55+1.7*math.Exp(-float64(s)/120)+0.03*rng.NormFloat64(), 0.0
		if gain > 0 {
			ood = 0.2 + 0.5*math.Exp(-float64(s)/90) + 0.02*rng.NormFloat64()
		}
		d.Loss = append(d.Loss, LossPoint{s, ce + 2.5*ood, ce, ood})
	}
	return d
}

// fixtureResult measures by the plainest means: every pair for AUROC, sorted scores for the rest.
func fixtureResult(name, apart string, id, out []float32) OODResult {
	r := OODResult{Name: name, Apart: apart, Count: len(out), Scores: out}
	var wins float64
	for _, a := range id {
		for _, b := range out {
			if a > b {
				wins++
			}
		}
	}
	r.AUROC = wins / float64(len(id)*len(out))
	r.AUPRIn, r.AUPROut = 0.5+r.AUROC/2, r.AUROC*0.8
	sorted := slices.Sorted(slices.Values(id))
	slices.Reverse(sorted)
	for i := 0; i <= 200; i++ {
		t := sorted[min(i*len(sorted)/200, len(sorted)-1)]
		r.ROCTPR = append(r.ROCTPR, float32(above(widen(id), float64(t))))
		r.ROCFPR = append(r.ROCFPR, float32(above(widen(out), float64(t))))
	}
	r.FPR95 = curveAt(r.ROCTPR, r.ROCFPR, 0.95)
	r.FPR95OODPositive = 1 - curveAt(r.ROCFPR, r.ROCTPR, 0.05)
	return r
}

// drawn gives synthetic pictures: a gradient of a colour of its own.
func drawn(class string, n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, drawnPicture(32, 32, uint8(len(class)*17+i*31)))
	}
	return out
}

func drawnPicture(w, h int, shade uint8) []byte {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{shade, uint8(x * 255 / w), uint8(y * 255 / h), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestPreview writes the fixture where DREAMOOD_REPORT_PREVIEW says, for looking at it in a browser, with pictures of
// the zip archive DREAMOOD_REPORT_PICTURES (entries …/<class>/<name>.png) where there is one.
func TestPreview(t *testing.T) {
	target := os.Getenv("DREAMOOD_REPORT_PREVIEW")
	if target == "" {
		t.Skip("set DREAMOOD_REPORT_PREVIEW to a file to write the page there")
	}
	pictures := drawn
	if archive := os.Getenv("DREAMOOD_REPORT_PICTURES"); archive != "" {
		pictures = archived(t, archive)
	}
	f, err := os.Create(target)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(f, fixture(pictures)); err != nil {
		t.Fatal(err)
	}
}

// archived gives pictures of an archive: those of the class, or of any class for a name that is none.
func archived(t *testing.T, archive string) func(class string, n int) [][]byte {
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.Close() })
	next := 0
	return func(class string, n int) [][]byte {
		var files []*zip.File
		for _, f := range z.File {
			if path.Base(path.Dir(f.Name)) == class {
				files = append(files, f)
			}
		}
		if len(files) == 0 {
			files = z.File
		}
		var out [][]byte
		for range n {
			next += 7919
			r, err := files[next%len(files)].Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(fmt.Errorf("read a picture: %w", err))
			}
			r.Close()
			out = append(out, data)
		}
		return out
	}
}
