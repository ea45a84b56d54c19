package artifact_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mapsOf counts the mappings of a file that this process has.
func mapsOf(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), path)
}

// TestMapGoesWithItsLastUser looks at what the kernel has mapped.
func TestMapGoesWithItsLastUser(t *testing.T) {
	store, dir := newFiles(t)
	ref := put(t, store, strings.Repeat("dream ", 5000))
	path := blobPath(dir, ref)
	one, two := mapped(t, store, ref), mapped(t, store, ref)
	runtime.KeepAlive(one)
	for range 5 {
		runtime.GC()
	}
	if n := mapsOf(t, path); n != 1 || two.Bytes()[0] != 'd' {
		t.Fatalf("%d mappings with one user left", n)
	}
	runtime.KeepAlive(two)
	for began := time.Now(); mapsOf(t, path) > 0; runtime.GC() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("nobody holds it, and it is mapped")
		}
	}
	if got := mapped(t, store, ref).Bytes(); got[1] != 'r' {
		t.Error("the blob was not mapped again")
	}
}
