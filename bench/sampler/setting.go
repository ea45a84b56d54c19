package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/services/sampler"
)

// setting is a bank and the parameters of a round.
type setting struct {
	name string
	n, d int
	question
}

// paper are the two settings of Dream-OOD.
func paper() []setting {
	return []setting{
		{"cifar100", 500, 768, question{K: 300, Select: 50, Pick: 50, Noises: 1500, Sigma: 0.07, Keep: 2}},
		{"imagenet100", 1000, 768, question{K: 300, Select: 200, Pick: 50, Noises: 1500, Sigma: 0.03, Keep: 2}},
	}
}

// growth varies the bank, the width and the number of noises, one at a time, around CIFAR-100's setting.
func growth() []setting {
	vary := func(n, d, noises int) setting {
		base := paper()[0].question
		base.K, base.Noises = n*3/5, noises
		base.Sigma = 0.07 * math.Sqrt(768/float64(d))
		return setting{fmt.Sprintf("n%d-d%d-g%d", n, d, noises), n, d, base}
	}
	return []setting{
		vary(250, 768, 1500), vary(1000, 768, 1500), vary(2000, 768, 1500), vary(4000, 768, 1500),
		vary(500, 128, 1500), vary(500, 256, 1500), vary(500, 1024, 1500),
		vary(500, 768, 500), vary(500, 768, 5000),
	}
}

func (s setting) String() string {
	return fmt.Sprintf("%d x %d, K %d, %d points x %d noises, sigma %.3g, keep %d", s.n, s.d, s.K, s.Pick, s.Noises, s.Sigma, s.Keep)
}

// mixture writes a bank of unit vectors that cluster as a class of a text-conditioned space does: 8 centres around one
// direction, the distance to the centre different from row to row.
func (s setting) mixture(folder string) (string, error) {
	const centres = 8
	draw := func(purpose string, rows int) []float32 {
		out := make([]float32, rows*s.d)
		philox.Normals(out, philox.Key{Seed: 1, Purpose: "bench." + purpose, Class: uint32(s.d)})
		return out
	}
	middle, around, noise := draw("middle", 1), draw("centres", centres), draw("rows", s.n)
	for i := range s.n {
		row := noise[i*s.d : (i+1)*s.d]
		spread := 0.4 + 0.6*float32(i%17)/16
		var square float64
		for j := range row {
			row[j] = middle[j] + 0.6*around[i%centres*s.d+j] + spread*row[j]
			square += float64(row[j]) * float64(row[j])
		}
		for j := range row {
			row[j] /= float32(math.Sqrt(square))
		}
	}
	return writeArray(folder, s.name+".npy", noise, s.n, s.d)
}

// realBank takes the first class of the bank that the user named, with the parameters of CIFAR-100's setting fitted to it.
func (b bench) realBank() (setting, string, error) {
	f, err := os.Open(b.real)
	if err != nil {
		return setting{}, "", err
	}
	defer func() { _ = f.Close() }()
	values, shape, err := npy.Read(f)
	if err != nil {
		return setting{}, "", fmt.Errorf("%s: %w", b.real, err)
	}
	if len(shape) < 2 {
		return setting{}, "", fmt.Errorf("%s: shape %v; want [N, D] or [classes, N, D]", b.real, shape)
	}
	s := setting{"real", shape[len(shape)-2], shape[len(shape)-1], paper()[0].question}
	p := sampler.Params{K: s.K, Select: s.Select, Pick: s.Pick, Noises: s.Noises, Sigma: s.Sigma, Keep: s.Keep}.FittedTo(s.n, s.d)
	s.K, s.Select, s.Pick, s.Sigma = p.K, p.Select, p.Pick, p.Sigma
	path, err := writeArray(b.folder, "real.npy", values[:s.n*s.d], s.n, s.d)
	return s, path, err
}

func writeArray(folder, name string, data []float32, shape ...int) (string, error) {
	var b bytes.Buffer
	if err := npy.Write(&b, data, shape...); err != nil {
		return "", err
	}
	path := filepath.Join(folder, name)
	return path, os.WriteFile(path, b.Bytes(), 0o644)
}
