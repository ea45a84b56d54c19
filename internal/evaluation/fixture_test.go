package evaluation

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/dreamood/dreamood/internal/philox"
)

// normals are n draws around a mean.
func normals(n int, seed uint64, mean float32) []float32 {
	out := make([]float32, n)
	philox.Normals(out, philox.Key{Seed: seed, Purpose: "evaluation.test"})
	for i := range out {
		out[i] += mean
	}
	return out
}

// measuredAt is a detector whose ID scores lie gap above its OOD scores; every tenth ID picture gets the wrong class, and
// more of them with wrong. The pictures are those of pictures.
func measuredAt(name string, gap float32, wrong int, pictures string) *Measured {
	set := func(set, group string, n int, mean float32, seed uint64, labelled bool) Set {
		s := Set{Name: set, Group: group, Scores: map[string][]float32{"energy": normals(n, seed, mean), "msp": normals(n, seed+50, 0)}}
		for i := range n {
			s.Files = append(s.Files, fmt.Sprintf("%s/%s/%d.png", pictures, set, i))
			s.Predicted, s.Confidence = append(s.Predicted, i%3), append(s.Confidence, 0.9)
			if labelled {
				y := i % 3
				if i%10 == 0 || i%100 < wrong {
					y = (i + 1) % 3
				}
				s.Labels = append(s.Labels, y)
			}
		}
		return s
	}
	m := &Measured{
		Detector: Detector{Name: name, Classes: []string{"a", "b", "c"}, Score: "energy", Threshold: float64(gap) - 1.645, Scores: []string{"energy", "msp"}},
		ID:       set("test", "", 600, gap, 1, true),
		OOD:      []Set{set("near1", Near, 400, 0.5, 2, false), set("far1", Far, 500, 0, 3, false), set("plain", "", 300, 0, 4, false)},
		Shifted:  []Set{set("fog", "", 300, gap-0.3, 5, true)},
	}
	m.OOD[1].Mistakes = []Mistake{{Kind: "accepted", File: "x.png", Predicted: "a", Score: 3, Picture: "mistakes/accepted-00.png", PNG: []byte("png")}}
	return m
}

// folder is a measurement as files in memory.
func folder(t *testing.T, m *Measured) fstest.MapFS {
	t.Helper()
	s, err := m.Summarise(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	err = m.Write(s, func(name string, data []byte) error {
		files[name] = &fstest.MapFile{Data: data}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
