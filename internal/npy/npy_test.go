package npy

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) ([]byte, []float32, []int, error) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	data, shape, err := Read(bytes.NewReader(raw))
	return raw, data, shape, err
}

func TestFilesOfNumPyAreReadAndWrittenByteForByte(t *testing.T) {
	for _, name := range []string{"rows.npy", "vector.npy"} {
		raw, data, shape, err := read(t, name)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Write(&out, data, shape...); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), raw) {
			t.Errorf("%s: written again it differs from NumPy's file", name)
		}
	}
	_, data, shape, _ := read(t, "rows.npy")
	if !slices.Equal(shape, []int{2, 3, 4}) || data[23] != float32(23)/7 {
		t.Fatalf("shape %v, last value %v", shape, data[23])
	}
	_, v, _, _ := read(t, "vector.npy")
	if !math.IsInf(float64(v[2]), 1) || !math.IsNaN(float64(v[3])) {
		t.Fatalf("values %v", v)
	}
}

func TestWhatCannotBeReadSaysWhy(t *testing.T) {
	for name, want := range map[string]string{"double.npy": "astype", "fortran.npy": "ascontiguousarray", "bigendian.npy": ">f4", "labels_i4.npy": "<i4"} {
		_, _, _, err := read(t, name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a remedy with %q", name, err, want)
		}
		if _, opened := Open("testdata/" + name); opened == nil || opened.Error() != err.Error() {
			t.Errorf("%s: opened %v, read %v", name, opened, err)
		}
	}
	raw, _, _, _ := read(t, "rows.npy")
	for _, n := range []int{0, 5, 9, 40, len(raw) - 1} {
		if _, _, err := Read(bytes.NewReader(raw[:n])); err == nil {
			t.Errorf("the first %d bytes were read without an error", n)
		}
	}
	huge := bytes.Replace(raw, []byte("(2, 3, 4)"), []byte("(9999999999, 9)"), 1)
	if _, _, err := Read(bytes.NewReader(huge)); err == nil {
		t.Error("an absurd shape was read")
	}
	for _, n := range []int{5, 7} {
		if err := Write(&bytes.Buffer{}, make([]float32, n), 2, 3); err == nil {
			t.Errorf("%d values filled a shape of 6", n)
		}
	}
	for _, shape := range [][]int{nil, {-1, 2}, {math.MaxInt / 2, 9}} {
		if _, err := NewWriter(&bytes.Buffer{}, shape...); err == nil {
			t.Errorf("an array of shape %v was begun", shape)
		}
	}
}

// TestHeadersAreNumPys over shapes of many lengths, where the padding changes.
func TestHeadersAreNumPys(t *testing.T) {
	raw, err := os.ReadFile("testdata/headers.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Shape []int
		File  string // its bytes as Latin-1
	}
	if err := json.Unmarshal(raw, &list); err != nil || len(list) < 50 {
		t.Fatalf("%d headers, %v", len(list), err)
	}
	sizes := map[int]bool{}
	for _, c := range list {
		var want []byte
		for _, r := range c.File {
			want = append(want, byte(r))
		}
		var got bytes.Buffer
		if err := Write(&got, nil, c.Shape...); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("shape %v: %q, want %q, %v", c.Shape, got.Bytes(), want, err)
		}
		sizes[len(want)] = true
		if _, shape, err := Read(bytes.NewReader(want)); err != nil || !slices.Equal(shape, c.Shape) {
			t.Errorf("shape %v was read as %v, %v", c.Shape, shape, err)
		}
	}
	if !sizes[128] || !sizes[192] {
		t.Errorf("headers of %v bytes: the padding never changed", sizes)
	}
}

func TestFormat2IsReadAsFormat1(t *testing.T) {
	_, want, _, _ := read(t, "rows.npy")
	_, got, shape, err := read(t, "format2.npy")
	if err != nil || !slices.Equal(shape, []int{2, 3, 4}) || !slices.Equal(got, want) {
		t.Errorf("%v of shape %v, %v", got, shape, err)
	}
}

func TestLabelsOfEveryWidth(t *testing.T) {
	files, err := filepath.Glob("testdata/labels_*.npy")
	if err != nil || len(files) != 8 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ReadLabels(bytes.NewReader(raw)); err != nil || !slices.Equal(got, []int{0, 3, 127, 1}) {
			t.Errorf("%s: %v, %v", file, got, err)
		}
		if _, err := ReadLabels(bytes.NewReader(raw[:len(raw)-1])); err == nil {
			t.Errorf("%s: truncated, it was read", file)
		}
	}
	raw, _, _, _ := read(t, "rows.npy")
	if _, err := ReadLabels(bytes.NewReader(raw)); err == nil || !strings.Contains(err.Error(), "astype('<i8')") {
		t.Errorf("an array of float32 became labels: %v", err)
	}
}

// TestPiecesAreTheWhole writes in pieces and reads parts, across the borders of the buffers.
func TestPiecesAreTheWhole(t *testing.T) {
	const n = 3*piece + 17
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i) / 3
	}
	path := filepath.Join(t.TempDir(), "a.npy")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(f, n)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < n; at += 1000 {
		if err := w.Append(values[at:min(at+1000, n)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Append([]float32{1}); err == nil {
		t.Error("one value too many was taken")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var whole bytes.Buffer
	if err := Write(&whole, values, n); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || !bytes.Equal(raw, whole.Bytes()) {
		t.Fatalf("the file differs from the array written at once, %v", err)
	}
	a, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, part := range [][2]int{{0, n}, {5, 6}, {piece - 1, 2*piece + 3}, {n, n}} {
		got := make([]float32, part[1]-part[0])
		if err := a.ReadAt(got, part[0]); err != nil || !slices.Equal(got, values[part[0]:part[1]]) {
			t.Errorf("values %v differ, %v", part, err)
		}
	}
	for _, from := range []int{-1, n - 1} {
		if err := a.ReadAt(make([]float32, 2), from); err == nil {
			t.Errorf("values at %d of %d were read", from, n)
		}
	}
	if err := os.Truncate(path, int64(whole.Len()-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("a truncated file was opened: %v", err)
	}
}
