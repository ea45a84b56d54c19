// Package asm holds the generators of this project's assembly, one command per
// package of internal/ that has kernels:
//
//	go generate ./internal/simd ./internal/matrix ./internal/philox
//	go -C tools/asm test -count=1 .  # fails when what is checked in is stale
//
// They are a module of their own: nothing but generating needs avo.
package asm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What the generators write is what is checked in, but for the first line,
// which holds the command.
func TestGeneratedIsFresh(t *testing.T) {
	for name, file := range map[string]string{"simd": "vector_amd64", "matrix": "tile_amd64", "philox": "normal_amd64"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			source, stubs := filepath.Join(dir, file+".s"), filepath.Join(dir, file+".go")
			if out, err := exec.Command("go", "run", "./"+name, "-out", source, "-stubs", stubs, "-pkg", name).CombinedOutput(); err != nil {
				t.Fatalf("go run ./%s: %v\n%s", name, err, out)
			}
			for _, fresh := range []string{source, stubs} {
				old := filepath.Join("..", "..", "internal", name, filepath.Base(fresh))
				if !bytes.Equal(body(t, fresh), body(t, old)) {
					t.Errorf("%s is stale: run go generate ./internal/%s", old, name)
				}
			}
		})
	}
}

// body is a file without its first line.
func body(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte("\n"))
	return rest
}
