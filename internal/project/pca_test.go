package project

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

func testRows(n, d int) matrix.Matrix {
	m := matrix.New(n, d)
	philox.Normals(m.Data, philox.Key{Seed: 5, Purpose: "pca"})
	for i := range m.Data {
		m.Data[i] = float32(math.Ldexp(float64(m.Data[i]), -(i % d)))
	}
	return m
}

// Both ways (covariance, Gram matrix) against scikit-learn, signs included.
func TestAgainstScikitLearn(t *testing.T) {
	b, err := os.ReadFile("testdata/pca.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		N, D      int
		XY        [][2]float64
		Explained [2]float64
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		xy, explained, err := PCA2(testRows(c.N, c.D))
		if err != nil {
			t.Fatal(err)
		}
		var worst float64
		for k := range 2 {
			worst = max(worst, math.Abs(explained[k]-c.Explained[k]))
			for i := range xy {
				worst = max(worst, math.Abs(xy[i][k]-c.XY[i][k]))
			}
		}
		if worst > 1e-12 {
			t.Errorf("[%d, %d]: off by up to %g", c.N, c.D, worst)
		}
		t.Logf("[%d, %d]: within %.1e", c.N, c.D, worst)
	}
}

func TestLine(t *testing.T) { // the rows span a line only
	rows := matrix.Matrix{Rows: 3, Cols: 4, Data: []float32{0, 0, 0, 0, 1, 1, 0, 0, 2, 2, 0, 0}}
	xy, explained, err := PCA2(rows)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(explained[0]-1) > 1e-12 || explained[1] > 1e-12 || math.Abs(xy[2][0]-math.Sqrt2) > 1e-12 || math.Abs(xy[2][1]) > 1e-6 {
		t.Errorf("coordinates %v, explained %v", xy, explained)
	}
}

func TestErrors(t *testing.T) {
	nan := testRows(3, 3)
	nan.Data[4] = float32(math.NaN())
	for name, rows := range map[string]matrix.Matrix{"one row": testRows(1, 3), "one column": testRows(3, 1), "equal rows": matrix.New(4, 4), "NaN": nan} {
		if _, _, err := PCA2(rows); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p, err := Fit(testRows(5, 3))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Project(testRows(2, 4)); err == nil {
		t.Error("projecting another width: no error")
	}
}

func BenchmarkFit(b *testing.B) {
	rows := testRows(5000, 256)
	for b.Loop() {
		if _, err := Fit(rows); err != nil {
			b.Fatal(err)
		}
	}
}
