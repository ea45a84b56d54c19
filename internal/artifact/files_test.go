package artifact_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
)

func newFiles(t *testing.T) (*artifact.Files, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := artifact.NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store, dir
}

func put(t *testing.T, store artifact.Store, data string) artifact.Ref {
	t.Helper()
	ref, err := artifact.PutBytes(t.Context(), store, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func blobPath(dir string, ref artifact.Ref) string {
	return filepath.Join(dir, "blobs", "sha256", ref.Hex()[:2], ref.Hex())
}

func TestFilesConform(t *testing.T) {
	store, dir := newFiles(t)
	conform(t, store)
	left, err := os.ReadDir(filepath.Join(dir, "blobs", "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestFilesExistingIsNotWritten(t *testing.T) {
	store, dir := newFiles(t)
	ref := put(t, store, "dream")
	before, err := os.Stat(blobPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), io.MultiReader(strings.NewReader("dream"))); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(blobPath(dir, ref))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the blob was written again: %v", err)
	}
}

func TestFilesCorruption(t *testing.T) {
	for name, content := range map[string]string{"flipped": "drEam", "short": "dre", "long": "dreams", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			store, dir := newFiles(t)
			ref := put(t, store, "dream")
			if err := os.WriteFile(blobPath(dir, ref), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := artifact.ReadAll(t.Context(), store, ref, 100)
			if !errors.Is(err, artifact.ErrCorrupt) || !strings.Contains(err.Error(), ref.Hex()) {
				t.Errorf("read: %v", err)
			}
			if len(content) == len("dream") {
				return // putting it again does not look inside
			}
			put(t, store, "dream")
			if back, err := artifact.ReadAll(t.Context(), store, ref, 100); err != nil || string(back) != "dream" {
				t.Errorf("after putting it again: %q, %v", back, err)
			}
		})
	}
}

func TestFilesOddReads(t *testing.T) {
	store, _ := newFiles(t)
	data := bytes.Repeat([]byte("x"), 1000)
	r, err := store.Open(t.Context(), put(t, store, string(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.ReadFull(r, make([]byte, 1000)); n != 1000 || err != nil {
		t.Errorf("read: %d, %v", n, err)
	}
	for range 2 { // the end stays the end
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read at the end: %d, %v", n, err)
		}
	}
}

func TestFilesNamesThePath(t *testing.T) {
	store, dir := newFiles(t)
	ref := put(t, store, "dream")
	sealed := blobPath(dir, ref)
	if err := os.RemoveAll(filepath.Join(dir, "blobs", "tmp")); err != nil { // stands for a disk that takes nothing more
		t.Fatal(err)
	}
	_, err := artifact.PutBytes(t.Context(), store, []byte("other"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("put without its folder: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root reads and writes everything")
	}
	if err := os.Chmod(sealed, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), ref); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), sealed) {
		t.Errorf("open without permission: %v", err)
	}
}

func TestNewFilesSweeps(t *testing.T) {
	_, dir := newFiles(t)
	tmp := filepath.Join(dir, "blobs", "tmp")
	for name, age := range map[string]time.Duration{"put-old": 25 * time.Hour, "put-new": time.Minute} {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := artifact.NewFiles(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 || left[0].Name() != "put-new" {
		t.Errorf("left: %v, %v", left, err)
	}
}
