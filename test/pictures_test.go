package test

import (
	"archive/zip"
	"io"
	"testing"
)

// pictures are the first n files of the ID test sample.
func pictures(t *testing.T, n int) [][]byte {
	t.Helper()
	r, err := zip.OpenReader(sample(t, "cifar10_test.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out [][]byte
	for _, f := range r.File[:n] {
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}
