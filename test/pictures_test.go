package test

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// trainingPictures is how many pictures the story trains on: enough to beat chance by far, few enough to be quick.
const trainingPictures = 1000

// trainingSet writes the first pictures of the ID training sample, in which the classes take turns, to a tar file in
// dir and returns its path.
func trainingSet(t *testing.T, dir string) string {
	t.Helper()
	in, err := os.Open(sample(t, "cifar10_train.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	packed, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "train.tar")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, w := tar.NewReader(packed), tar.NewWriter(out)
	for range trainingPictures {
		h, err := r.Next()
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// pictures are the first n files of the ID test sample.
func pictures(t *testing.T, n int) [][]byte {
	t.Helper()
	_, images := archived(t, "cifar10_test.zip")
	return images[:n]
}

// archived are the names and contents of the files of a zip archive of the sample.
func archived(t *testing.T, archive string) (files []string, contents [][]byte) {
	t.Helper()
	r, err := zip.OpenReader(sample(t, archive))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		files, contents = append(files, f.Name), append(contents, data)
	}
	return files, contents
}
