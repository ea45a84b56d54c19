package embedmap

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
)

// clouds are four clouds of 40 rows in 12 dimensions; tools/vectors/tsne.py builds the same.
func clouds() matrix.Matrix {
	const classes, each, dim = 4, 40, 12
	x := make([]float32, classes*(each+1)*dim)
	philox.Normals(x, philox.Key{Seed: 31, Purpose: "tsne"})
	m := matrix.New(classes*each, dim)
	for c := range classes {
		part := x[c*(each+1)*dim:]
		for i := range each {
			row := m.Row(c*each + i)
			for j := range row {
				v := part[i*dim+j] * float32(0.4+0.2*float64(c))
				if j == 0 {
					v *= float32(1 + c)
				}
				row[j] = v + part[each*dim+j]*2
			}
		}
	}
	return m
}

type recorded struct {
	First, Last []float32
	Cases       []struct {
		Perplexity, Divergence, Kept float64
		Others                       []float64 // divergences of runs on nearly the same input
		Joint                        []float64 // of the condensed upper triangle
	}
}

func vectors(t *testing.T) recorded {
	t.Helper()
	raw, err := os.ReadFile("testdata/tsne.json")
	var r recorded
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil || len(r.Cases) != 3 {
		t.Fatalf("%d cases, %v", len(r.Cases), err)
	}
	return r
}

// TestAgainstScikitLearn compares the joint probabilities, and what is left of the divergence after as many steps: the
// descent itself is chaotic, so no two programs place a point alike.
func TestAgainstScikitLearn(t *testing.T) {
	rows, want := clouds(), vectors(t)
	for i, v := range rows.Row(0) {
		if last := rows.Row(rows.Rows - 1)[i]; math.Abs(float64(v-want.First[i])) > 1e-5 || math.Abs(float64(last-want.Last[i])) > 1e-5 {
			t.Fatalf("the input differs from Python's in column %d", i)
		}
	}
	for _, c := range want.Cases {
		p := affinities(rows, c.Perplexity)
		for at, v := range c.Joint { // the condensed upper triangle: row 0 from column 1, then row 1 from column 2
			i, j := 0, at+1
			if j >= rows.Rows {
				i, j = 1, at+1-(rows.Rows-1)+1
			}
			if got := p[i*rows.Rows+j]; math.Abs(got-v) > 1e-4*v+1e-9 {
				t.Errorf("perplexity %v: joint probability of (%d, %d) is %v, want %v", c.Perplexity, i, j, got, v)
			}
		}
		xy, divergence, err := TSNE(t.Context(), rows, c.Perplexity)
		// scikit-learn's own runs, on input that differs in its last bits, span low to high.
		low, high := min(c.Divergence, slices.Min(c.Others)), max(c.Divergence, slices.Max(c.Others))
		if slack := (high - low) / 2; err != nil || divergence < low-slack || divergence > high+slack {
			t.Errorf("perplexity %v: divergence %v, scikit-learn's %v to %v, %v", c.Perplexity, divergence, low, high, err)
		}
		if kept := neighboursKept(rows, xy); kept < c.Kept-0.03 {
			t.Errorf("perplexity %v: %v of ten neighbours stay neighbours, scikit-learn keeps %v", c.Perplexity, kept, c.Kept)
		}
	}
}

// neighboursKept is the mean share of a row's ten nearest that are among its ten nearest on the map.
func neighboursKept(rows matrix.Matrix, xy [][2]float64) float64 {
	ten := func(i int, distance func(j int) float64) []int {
		var order []int
		for j := range rows.Rows {
			if j != i {
				order = append(order, j)
			}
		}
		slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, distance(a)-distance(b))) })
		return order[:10]
	}
	kept := 0
	for i := range rows.Rows {
		high := ten(i, func(j int) (d float64) {
			for k, v := range rows.Row(i) {
				d += math.Pow(float64(v-rows.Row(j)[k]), 2)
			}
			return d
		})
		low := ten(i, func(j int) float64 { return math.Hypot(xy[i][0]-xy[j][0], xy[i][1]-xy[j][1]) })
		for _, j := range high {
			if slices.Contains(low, j) {
				kept++
			}
		}
	}
	return float64(kept) / float64(10*rows.Rows)
}

func TestSameRowsSameMap(t *testing.T) {
	first, how, err := Lay(t.Context(), "tsne", clouds())
	if err != nil || !strings.Contains(how, "perplexity 30") {
		t.Fatalf("%q, %v", how, err)
	}
	again, _, _ := Lay(t.Context(), "tsne", clouds())
	if !slices.Equal(first, again) {
		t.Error("the second map differs")
	}
}

func TestWhatCannotBeLaidOut(t *testing.T) {
	rows := clouds()
	few := matrix.Matrix{Rows: 4, Cols: rows.Cols, Data: rows.Data[:4*rows.Cols]}
	for _, perplexity := range []float64{0.5, 60, math.NaN()} {
		if _, _, err := TSNE(t.Context(), rows, perplexity); err == nil {
			t.Errorf("perplexity %v was taken", perplexity)
		}
	}
	if _, _, err := TSNE(t.Context(), few, 1.01); err == nil {
		t.Error("four points were laid out")
	}
	if _, _, err := Lay(t.Context(), "umap", rows); err == nil || !strings.Contains(err.Error(), "tsne, pca") {
		t.Errorf("an unknown method: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := TSNE(ctx, rows, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, how, err := Lay(t.Context(), "pca", few); err != nil || !strings.Contains(how, "% of the variance") {
		t.Errorf("principal components of four rows: %q, %v", how, err)
	}
}

// TestSVG reads the drawing back: valid XML, every mark inside the frame, texts escaped and cut.
func TestSVG(t *testing.T) {
	m := Map{Title: "a < b & c", Lines: []string{strings.Repeat("x", 300)}, ID: "ID embedding", Sampled: "outlier"}
	for i := range 30 {
		m.Classes = append(m.Classes, strings.Repeat("long name ", 1+i%3))
		m.Points = append(m.Points, Point{X: float64(i * i), Y: -float64(i), Class: i}, Point{X: -float64(i), Y: 3, Class: i, Sampled: true})
	}
	var out bytes.Buffer
	if err := m.SVG(&out); err != nil {
		t.Fatal(err)
	}
	count, texts := map[string]int{}, ""
	for d := xml.NewDecoder(bytes.NewReader(out.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
		case xml.CharData:
			texts += string(token) + "\n"
		}
	}
	// Every cross has an edge; the legend has one mark of each kind.
	if count["circle"] != 30+1 || count["path"] != 2*30+1 || !strings.Contains(texts, "a < b & c") || !strings.Contains(texts, "and 8 more") || !strings.Contains(texts, "outlier (30)") {
		t.Errorf("marks %v, texts %q", count, texts)
	}
	place, err := m.fit()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range m.Points {
		if x, y := place(q); x < margin+inset-1e-9 || x > margin+plotWidth-inset+1e-9 || y < inset-1e-9 || y > plotTall-inset+1e-9 {
			t.Errorf("point %v is drawn at (%v, %v)", q, x, y)
		}
	}
	m.Points[0].X = math.NaN()
	if err := m.SVG(io.Discard); err == nil {
		t.Error("a point that is no number was drawn")
	}
	seen := map[string]bool{}
	for i := range 40 {
		if seen[Colour(i)] {
			t.Errorf("colour %d, %s, comes twice", i, Colour(i))
		}
		seen[Colour(i)] = true
	}
}
