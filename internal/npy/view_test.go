package npy

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestViewIsWhatReadReads(t *testing.T) {
	for _, name := range []string{"rows.npy", "vector.npy"} {
		raw, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		want, shape, err := Read(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		got, viewed, err := View(raw)
		same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
		if err != nil || !slices.Equal(viewed, shape) || !slices.EqualFunc(got, want, same) {
			t.Errorf("%s: %v of shape %v, %v", name, got, viewed, err)
		}
		at := bytes.IndexByte(raw, '\n') + 1
		raw[at+3] ^= 0x80 // the sign of the first value
		if got[0] != -want[0] && want[0] != 0 || got[0] == 0 && !math.Signbit(float64(got[0])) {
			t.Errorf("%s: the view is a copy", name)
		}
		for cut := range len(raw) {
			if _, _, err := View(raw[:cut]); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are an array", name, cut, len(raw))
			}
		}
		odd := append([]byte{0}, raw...)
		if _, _, err := View(odd[1:]); err == nil || !strings.Contains(err.Error(), "multiple of 4") {
			t.Errorf("%s: values at an odd address: %v", name, err)
		}
	}
	for name, want := range map[string]string{"double.npy": "astype", "fortran.npy": "ascontiguousarray", "bigendian.npy": ">f4", "labels_i4.npy": "<i4"} {
		raw, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := View(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a remedy with %q", name, err, want)
		}
	}
	var empty bytes.Buffer
	if err := Write(&empty, nil, 0, 7); err != nil {
		t.Fatal(err)
	}
	if data, shape, err := View(empty.Bytes()); err != nil || len(data) != 0 || !slices.Equal(shape, []int{0, 7}) {
		t.Errorf("an array without values: %v, %v, %v", data, shape, err)
	}
}

func TestReaderReadsInPieces(t *testing.T) {
	const rows, cols = 700, 300 // more than a piece
	values := make([]float32, rows*cols)
	for i := range values {
		values[i] = float32(i)
	}
	var file bytes.Buffer
	if err := Write(&file, values, rows, cols); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(file.Bytes()))
	if err != nil || !slices.Equal(r.Shape(), []int{rows, cols}) {
		t.Fatal(r.Shape(), err)
	}
	got, at := make([]float32, 250*cols), 0
	for _, n := range []int{0, 1, 250 * cols, cols} {
		if err := r.Next(got[:n]); err != nil || !slices.Equal(got[:n], values[at:at+n]) {
			t.Fatalf("%d values at %d: %v", n, at, err)
		}
		at += n
		if err := r.Skip(17); err != nil {
			t.Fatal(err)
		}
		at += 17
	}
	left := len(values) - at
	if r.Next(make([]float32, left+1)) == nil || r.Skip(left+1) == nil {
		t.Error("more than the array was read")
	}
	cut, err := NewReader(bytes.NewReader(file.Bytes()[:file.Len()-1]))
	if err != nil {
		t.Fatal(err)
	}
	if cut.Next(make([]float32, len(values))) == nil {
		t.Error("a truncated array was read")
	}
	cut, _ = NewReader(bytes.NewReader(file.Bytes()[:file.Len()-1]))
	if cut.Skip(len(values)) == nil {
		t.Error("a truncated array was skipped")
	}
}

// TestRecordHeaderIsNumPys against what np.save wrote for n zeroed records of the same fields (NumPy 2).
func TestRecordHeaderIsNumPys(t *testing.T) {
	for _, n := range []int{0, 1, 12345} {
		want, err := os.ReadFile(fmt.Sprintf("testdata/records_%d.head", n))
		if err != nil {
			t.Fatal(err)
		}
		got := RecordHeader([]Field{{"label", "<i4"}, {"index", "<i4"}, {"kth_distance", "<f4"}}, n)
		if !bytes.Equal(got, want) {
			t.Errorf("%d records: %q, NumPy writes %q", n, got, want)
		}
	}
}
