package artifact_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
)

func mapped(t *testing.T, store artifact.Mapper, ref artifact.Ref) *artifact.Mapping {
	t.Helper()
	m, err := store.Map(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMapIsTheBlob(t *testing.T) {
	store, dir := newFiles(t)
	text := strings.Repeat("dream ", 5000)
	ref := put(t, store, text)
	one, two := mapped(t, store, ref), mapped(t, store, ref)
	if string(one.Bytes()) != text || one != two {
		t.Errorf("%d bytes, shared %v", len(one.Bytes()), one == two)
	}
	// The file goes, the mapping stays.
	if err := os.Remove(blobPath(dir, ref)); err != nil {
		t.Fatal(err)
	}
	if string(one.Bytes()) != text {
		t.Error("the mapping changed when its file was deleted")
	}
	if _, err := store.Map(t.Context(), ref); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a blob that is gone: %v", err)
	}
	if m := mapped(t, store, put(t, store, "")); len(m.Bytes()) != 0 {
		t.Errorf("the empty blob has %d bytes", len(m.Bytes()))
	}
	if _, err := store.Map(t.Context(), "sha256:no"); err == nil {
		t.Error("mapped what is no reference")
	}
}

func TestMapVerifies(t *testing.T) {
	text := strings.Repeat("dream ", 5000)
	for name, damage := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":     func([]byte) []byte { return nil },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"a bit":     func(b []byte) []byte { b[9999] ^= 1; return b },
	} {
		store, dir := newFiles(t)
		ref := put(t, store, text)
		if err := os.WriteFile(blobPath(dir, ref), damage([]byte(text)), 0o640); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what is corrupt is not taken for verified the second time
			if _, err := store.Map(t.Context(), ref); !errors.Is(err, artifact.ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := os.WriteFile(blobPath(dir, ref), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := mapped(t, store, ref).Bytes(); string(got) != text {
			t.Errorf("%s, then mended: %d bytes", name, len(got))
		}
	}
}

// TestMapVerifiesAnotherFileAgain puts a damaged file in the place of one that was verified.
func TestMapVerifiesAnotherFileAgain(t *testing.T) {
	store, dir := newFiles(t)
	text := strings.Repeat("dream ", 5000)
	ref := put(t, store, text)
	old := mapped(t, store, ref)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, bytes.ToUpper([]byte(text)), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, blobPath(dir, ref)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Map(t.Context(), ref); !errors.Is(err, artifact.ErrCorrupt) {
		t.Errorf("another file of the same size: %v", err)
	}
	if string(old.Bytes()) != text {
		t.Error("the mapping changed when its file was replaced")
	}
}

// TestMapVerifiesOnce damages a blob behind the back of its time: the digest is not computed a second time.
func TestMapVerifiesOnce(t *testing.T) {
	store, dir := newFiles(t)
	text := strings.Repeat("dream ", 5000)
	ref := put(t, store, text)
	info, err := os.Stat(blobPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(mapped(t, store, ref))
	if err := os.WriteFile(blobPath(dir, ref), []byte(strings.ToUpper(text)), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(blobPath(dir, ref), time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Map(t.Context(), ref); err != nil {
		t.Errorf("verified again: %v", err)
	}
	if err := os.Chtimes(blobPath(dir, ref), time.Time{}, info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Map(t.Context(), ref); !errors.Is(err, artifact.ErrCorrupt) {
		t.Errorf("a file with another time was not verified: %v", err)
	}
}

// TestMapByManyAtOnce lets readers come and go while the collector unmaps what nobody holds.
func TestMapByManyAtOnce(t *testing.T) {
	store, _ := newFiles(t)
	var refs []artifact.Ref
	var texts []string
	for i := range 3 {
		texts = append(texts, strings.Repeat(string(rune('a'+i)), 40_000))
		refs = append(refs, put(t, store, texts[i]))
	}
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for i := range 40 {
				at := (worker + i) % 3
				m, err := store.Map(t.Context(), refs[at])
				if err != nil || string(m.Bytes()) != texts[at] {
					t.Errorf("blob %d: %v", at, err)
					return
				}
				if i%8 == 0 {
					runtime.GC()
				}
				if string(m.Bytes()) != texts[at] {
					t.Errorf("blob %d changed", at)
				}
				runtime.KeepAlive(m)
			}
		})
	}
	group.Wait()
}
