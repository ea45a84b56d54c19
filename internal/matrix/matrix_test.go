package matrix

import (
	"math"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/philox"
)

func random(rows, cols int, seed uint64) Matrix {
	m := New(rows, cols)
	philox.Normals(m.Data, philox.Key{Seed: seed, Purpose: "test"})
	return m
}

func TestNormalised(t *testing.T) {
	m, err := random(20, 33, 3).Normalised()
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Rows {
		if d := math.Abs(Norm(m.Row(i)) - 1); d > 1e-7 {
			t.Errorf("norm of row %d is off by %g", i, d)
		}
	}
	for _, c := range []struct {
		value float32
		want  string
	}{{0, "row 1 is zero"}, {float32(math.NaN()), "row 1, column 0 is NaN"}, {float32(math.Inf(1)), "row 1, column 0 is +Inf"}} {
		bad := Matrix{Rows: 2, Cols: 1, Data: []float32{1, c.value}}
		if _, err := bad.Normalised(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestOf(t *testing.T) {
	if m, err := Of(make([]float32, 6), 3); err != nil || m.Rows != 2 {
		t.Errorf("Of 6 by 3: %+v, %v", m, err)
	}
	for _, cols := range []int{-1, 0, 4} {
		if _, err := Of(make([]float32, 6), cols); err == nil {
			t.Errorf("6 values as rows of %d: no error", cols)
		}
	}
}
