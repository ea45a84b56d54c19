package npy

import (
	"bytes"
	"math"
	"os"
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
	for name, want := range map[string]string{"double.npy": "astype", "fortran.npy": "ascontiguousarray"} {
		if _, _, _, err := read(t, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a remedy with %q", name, err, want)
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
	if err := Write(&bytes.Buffer{}, make([]float32, 5), 2, 3); err == nil {
		t.Error("5 values filled a shape of 6")
	}
}
