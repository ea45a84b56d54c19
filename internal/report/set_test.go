package report

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func setPage(t *testing.T) SetPage {
	t.Helper()
	file := drawnPicture(32, 32, 90)
	return SetPage{
		Title: "Outlier set <sets/x>", Version: "v1", Gated: true, Judged: true, Measured: true,
		Classes: []SetClass{
			{Name: "cat", Wanted: 10, Taken: 10, Tried: 20, Limit: 40, RefusedBy: map[string]int{"leak_distance": 8, "blank": 2},
				Pictures: []SetPicture{{PNG: file, Neighbour: file, Index: 3, Detail: "distance 1"}}, More: 9,
				Refused: []SetPicture{{PNG: file, Index: 4, Note: "leak_distance"}, {PNG: []byte("broken")}}},
			{Name: "dog", Wanted: 10, Taken: 4, Tried: 40, Limit: 40, RefusedBy: map[string]int{"duplicate": 36}},
		},
		Taken:   Values{Confidence: []float64{0.2, 0.4, math.NaN()}, Distance: []float64{1, 1.1, 1.2}},
		Refused: Values{Confidence: []float64{0.9}, Distance: []float64{0.4}},
	}
}

func TestSetReport(t *testing.T) {
	var page, again bytes.Buffer
	if err := errors.Join(WriteSet(&page, setPage(t)), WriteSet(&again, setPage(t))); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{
		"Outlier set &lt;sets/x&gt;", "The gate took 14 of 60 candidates. 6 are missing: the limit of candidates was reached in dog.",
		"refused: leak distance", "refused: duplicate", "most refused for", "Confidence of the detector", "Distance to the bank", "the ID picture nearest to picture 3 of cat",
		"9 more are not shown", "unreadable picture", `class="short"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", "NaN", "src=\"//"} {
		if strings.Contains(strings.ReplaceAll(text, `xmlns="http://www.w3.org/2000/svg"`, ""), never) {
			t.Errorf("%q is on the page", never)
		}
	}
	if !bytes.Equal(page.Bytes(), again.Bytes()) {
		t.Error("the same page gave other bytes")
	}
	var bare bytes.Buffer
	if err := WriteSet(&bare, SetPage{Classes: []SetClass{{Name: "cat", Wanted: 2, Taken: 2, Tried: 2}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 pictures, taken as they came", "Nothing was measured"} {
		if !strings.Contains(bare.String(), want) {
			t.Errorf("without a gate, %q is not on the page", want)
		}
	}
}
