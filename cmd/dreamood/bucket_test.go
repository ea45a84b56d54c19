package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/bucket"
	"github.com/dreamood/dreamood/internal/bucket/buckettest"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// twenty are pictures of two classes, one of which is not ASCII.
func twenty() (list []*generatorv1.Picture) {
	for i := range 20 {
		class := []string{"cat", "müßige Fliege"}[i%2]
		list = append(list, picture(fmt.Sprintf("%s/%06d.png", class, i), class, fmt.Sprint("picture ", i)))
	}
	return list
}

// TestExportToABucketGoesOn is cut off while it uploads, and called again: what is there is not sent twice, and the
// manifest comes last.
func TestExportToABucketGoesOn(t *testing.T) {
	server := buckettest.Start(t)
	if !server.InProcess() {
		t.Skip("another server cannot be told to fail")
	}
	f := &fake{set: twenty()}
	out := server.URL("sets/demo")
	server.Refuse(func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/000013.png")
	})
	f.typed(t, "sets", "export", "demo", "--out", out).wants(t, exitFailed, "000013.png")
	b, err := bucket.Open(t.Context(), out, bucket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Stat(t.Context(), manifestName); !errors.Is(err, bucket.ErrNotFound) {
		t.Fatalf("an export that was cut off has a manifest: %v", err)
	}
	there := 0
	for range b.List(t.Context(), "") {
		there++
	}
	server.Refuse(nil)
	before := server.Requests(http.MethodPut)
	f.typed(t, "sets", "export", "demo", "--out", out).wants(t, exitOK, "20 pictures")
	if sent := server.Requests(http.MethodPut) - before; there == 0 || sent != 20-there+1 {
		t.Errorf("%d files were there, %d were sent; want the others and the manifest", there, sent)
	}
	f.typed(t, "sets", "export", "demo", "--out", out).wants(t, exitUsage, "already holds an export")
	f.typed(t, "sets", "export", "demo", "--out", out, "--force").wants(t, exitOK, "20 pictures")
	f.typed(t, "sets", "export", "demo", "--out", "ftp://x/y").wants(t, exitUsage, "want a folder or s3://")
}

// TestTarShardsHoldSamples reads the shards back from a bucket, in the order that WebDataset needs.
func TestTarShardsHoldSamples(t *testing.T) {
	server := buckettest.Start(t)
	set := twenty()
	out := server.URL("tar")
	(&fake{set: set}).typed(t, "sets", "export", "demo", "--out", out, "--format", "webdataset", "--shard-size", "8").wants(t, exitOK, "20 pictures")
	b, err := bucket.Open(t.Context(), out, bucket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	next := 0
	for shard, count := range []int{8, 8, 4} {
		r, _, err := b.Open(t.Context(), fmt.Sprintf("shard-%06d.tar", shard))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		in := tar.NewReader(r)
		for range count {
			p := set[next]
			for _, suffix := range []string{".cls", ".json", ".png"} {
				h, err := in.Next()
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(in)
				if err != nil || h.Name != strings.TrimSuffix(p.Record.File, ".png")+suffix {
					t.Fatalf("shard %d holds %s, %v; want picture %d%s", shard, h.Name, err, next, suffix)
				}
				if suffix == ".png" && !bytes.Equal(data, p.Png) || suffix == ".cls" && string(data) != fmt.Sprint(next%2) ||
					suffix == ".json" && !bytes.Contains(data, []byte(fmt.Sprintf(`"shard":%d`, shard))) {
					t.Errorf("%s holds %q", h.Name, data)
				}
			}
			next++
		}
		if _, err := in.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("shard %d goes on: %v", shard, err)
		}
	}
	r, _, err := b.Open(t.Context(), manifestName)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || bytes.Count(text, []byte("\n")) != len(set) {
		t.Errorf("%d lines, %v", bytes.Count(text, []byte("\n")), err)
	}
}

// TestAnExportThatReplacesAnotherLeavesNothingOfIt replaces a long one by a short one, in a folder and in a bucket, in both
// forms and from one to the other; what is no part of an export stays.
func TestAnExportThatReplacesAnotherLeavesNothingOfIt(t *testing.T) {
	server := buckettest.Start(t)
	long, short := &fake{set: twenty()}, &fake{set: twenty()[:3]}
	folder := t.TempDir()
	for _, out := range []string{folder, server.URL("replaced")} {
		list := func() []string {
			if strings.HasPrefix(out, bucket.Scheme) {
				return objects(t, out)
			}
			return files(t, out)
		}
		for i, c := range []struct {
			before, after string
			want          []string
		}{
			{"webdataset", "webdataset", []string{"manifest.jsonl", "shard-000000.tar"}},
			{"folder", "webdataset", []string{"manifest.jsonl", "shard-000000.tar"}},
			{"webdataset", "folder", []string{"cat/000000.png", "cat/000002.png", "manifest.jsonl", "müßige Fliege/000001.png"}},
			{"folder", "folder", []string{"cat/000000.png", "cat/000002.png", "manifest.jsonl", "müßige Fliege/000001.png"}},
		} {
			long.typed(t, "sets", "export", "demo", "--out", out, "--force", "--shard-size", "6", "--format", c.before).wants(t, exitOK)
			short.typed(t, "sets", "export", "demo", "--out", out, "--force", "--shard-size", "6", "--format", c.after).wants(t, exitOK)
			if got := list(); !slices.Equal(got, c.want) {
				t.Errorf("%s, case %d: %q, want %q", out, i, got, c.want)
			}
		}
	}
	own := filepath.Join(folder, "cat", "mine.txt")
	if err := os.WriteFile(own, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	(&fake{set: twenty()[1:2]}).typed(t, "sets", "export", "demo", "--out", folder, "--force").wants(t, exitOK)
	if got, want := files(t, folder), []string{"cat/mine.txt", "manifest.jsonl", "müßige Fliege/000001.png"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func objects(t *testing.T, url string) (names []string) {
	t.Helper()
	b, err := bucket.Open(t.Context(), url, bucket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
