package dataset

import (
	"archive/zip"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
	"unicode"
)

// fuzzOptions are small, so that what fuzzing allocates stays small.
var fuzzOptions = Options{Size: 8, Workers: 2, Limits: Limits{
	MaxEntries: 200, MaxFileBytes: 1 << 16, MaxTotalBytes: 1 << 20, MaxPixels: 1 << 16, MaxMemoryBytes: 1 << 20,
}}

// checkOutcome holds for any input: either a consistent dataset or an
// InvalidError in which every problem has a printable file and a remedy.
func checkOutcome(t *testing.T, d *Dataset, err error) {
	t.Helper()
	if err == nil {
		if d.Len() == 0 || len(d.Pixels) != d.Len()*8*8*3 || len(d.Files) != d.Len() {
			t.Fatalf("an inconsistent dataset of %d pictures", d.Len())
		}
		for i, f := range d.Files {
			if checkPath(f) != "" || int(d.Labels[i]) >= len(d.Classes) {
				t.Fatalf("file %q with label %d", f, d.Labels[i])
			}
		}
		return
	}
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("error %v is no InvalidError", err)
	}
	for _, p := range invalid.Problems {
		if p.Remedy == "" || p.Detail == "" || p.Reason == "" {
			t.Fatalf("%+v misses a part", p)
		}
		for _, r := range p.File {
			if !unicode.IsGraphic(r) {
				t.Fatalf("the file name %q is not printable", p.File)
			}
		}
	}
}

func fuzzOpen(t *testing.T, name string, data []byte) {
	file := writeFile(t, name, data)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d, err := Open(ctx, file, fuzzOptions)
	checkOutcome(t, d, err)
	d, err = OpenUnlabelled(ctx, file, fuzzOptions)
	checkOutcome(t, d, err)
	if _, err := Check(ctx, filepath.Clean(file), fuzzOptions); err != nil {
		t.Fatal(err)
	}
}

func FuzzOpenZip(f *testing.F) {
	f.Add(packZip(f, zip.Store, animals(2, "")))
	f.Add(packZip(f, zip.Deflate, append(animals(1, "train/"), member{name: "../x.png", data: tiny(1)})))
	f.Add(packZip(f, zip.Store, []member{{name: "cat/", data: nil}, {name: "cat/l.png", target: "x"}}))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzOpen(t, "x.zip", data) })
}

func FuzzOpenTar(f *testing.F) {
	f.Add(packTar(f, animals(2, "")))
	f.Add(gzipped(f, packTar(f, animals(1, "./"))))
	f.Add(packTar(f, []member{{name: "cat/l.png", target: "x"}, {name: "/cat/x.png", data: tiny(1)}}))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzOpen(t, "x.tar", data) })
}

func FuzzDecode(f *testing.F) {
	f.Add(tiny(1))
	f.Add(bombPNG(1<<31-1, 1<<31-1))
	f.Add([]byte("\xff\xd8\xff\xe0"))
	f.Add([]byte("RIFF\x04\x00\x00\x00WEBPVP8 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		pixels, err := Decode(t.Context(), "x.png", data, fuzzOptions)
		var p Problem
		if err == nil && len(pixels) != 8*8*3 || err != nil && !errors.As(err, &p) {
			t.Fatalf("%d bytes, error %v", len(pixels), err)
		}
	})
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"cat/1.png", "../x", "/x", "a//b", "C:x", "a\\b", "\u202e", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkPath(name) == "" && (!filepath.IsLocal(filepath.FromSlash(name)) || printable(name) != name && len(name) <= 256) {
			t.Fatalf("%q was let through", name)
		}
	})
}
