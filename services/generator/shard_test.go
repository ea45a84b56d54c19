package generator

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dreamood/dreamood/internal/artifact"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// TestShardsRenderEveryPictureOnce cuts sets of any size and hands out their shards.
func TestShardsRenderEveryPictureOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		classes, perClass := rapid.IntRange(1, 12).Draw(t, "classes"), rapid.IntRange(1, 300).Draw(t, "per class")
		size := rapid.IntRange(1, 64).Draw(t, "shard size")
		labels := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).Draw(t, "labels")[:classes]
		total := classes * perClass
		n := shardsOf(total, size)
		if n < 1 || n > maxShards || n > total {
			t.Fatalf("%d shards for %d pictures", n, total)
		}
		var got []string
		for i := range n {
			from, to := part(total, i, n)
			if to <= from || n < maxShards && to-from > size {
				t.Fatalf("shard %d of %d renders [%d, %d) at a size of %d", i, n, from, to, size)
			}
			count := 0
			for _, s := range segmentsOf(from, to, perClass, labels) {
				if s.count < 1 {
					t.Fatalf("shard %d has the segment %+v", i, s)
				}
				for k := range s.count {
					got = append(got, fmt.Sprint(s.label, "/", s.first+k))
				}
				count += s.count
			}
			if count != to-from {
				t.Fatalf("shard %d renders %d pictures of [%d, %d)", i, count, from, to)
			}
		}
		at := 0
		for _, label := range labels {
			for k := range perClass {
				if want := fmt.Sprint(label, "/", k); at >= len(got) || got[at] != want {
					t.Fatalf("picture %d is %v, want %s", at, got[at:min(at+1, len(got))], want)
				}
				at++
			}
		}
		if at != len(got) {
			t.Fatalf("%d pictures of %d", len(got), at)
		}
	})
}

// some are pictures as a worker hands them over.
func some() []*generatorv1.Picture {
	var out []*generatorv1.Picture
	for i := range 3 {
		out = append(out, &generatorv1.Picture{
			Png: bytes.Repeat([]byte{byte(i), 77}, 600*i+1),
			Record: &generatorv1.PictureRecord{
				File: fmt.Sprintf("pickup truck/%06d.png", i), Class: "pickup truck", Index: int32(i), Sha256: "ab", Space: "spaces/x",
				Sampling: &samplerv1.Sampling{Method: "knn", K: 3, Sigma: 0.07}, Rendering: &generatorv1.Rendering{Steps: 4, Seed: 1 << 60},
				Prompt: `a "quoted" <prompt>`, Word: "truck", Embedding: []float32{0.1, -1e-20, float32(i)}, KthDistance: 0.5,
				Source: generatorv1.Source_SOURCE_OUTLIERS,
			},
		})
	}
	return out
}

func pack(t *testing.T, pictures []*generatorv1.Picture) []byte {
	t.Helper()
	var file bytes.Buffer
	s := newShard(&file)
	for _, p := range pictures {
		if err := s.add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// kept stores a shard in a folder of blobs.
func kept(t *testing.T, data []byte) (s *Service, ref artifact.Ref, path string) {
	t.Helper()
	dir := t.TempDir()
	blobs, err := artifact.NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ref, err = artifact.PutBytes(t.Context(), blobs, data); err != nil {
		t.Fatal(err)
	}
	return &Service{deps: Deps{Blobs: blobs}}, ref, filepath.Join(dir, "blobs", "sha256", ref.Hex()[:2], ref.Hex())
}

func TestShardComesBackAsItWasWritten(t *testing.T) {
	want := some()
	data := pack(t, want)
	if !bytes.Equal(data, pack(t, some())) {
		t.Error("the same pictures gave another shard")
	}
	s, ref, _ := kept(t, data)
	var got []*generatorv1.Picture
	err := s.readShard(t.Context(), string(ref), func(p *generatorv1.Picture) error {
		got = append(got, p)
		return nil
	})
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d pictures, %v", len(got), err)
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("picture %d is %v, want %v", i, got[i], want[i])
		}
	}
	// Readers of WebDataset take files in turn, those of a sample with one stem together.
	r := tar.NewReader(bytes.NewReader(data))
	for i := range 2 * len(want) {
		h, err := r.Next()
		if name := fmt.Sprintf("pickup truck/%06d%s", i/2, []string{".json", ".png"}[i%2]); err != nil || h.Name != name {
			t.Errorf("file %d is %v, %v; want %s", i, h, err, name)
		}
	}
	stop := errors.New("enough")
	if err := s.readShard(t.Context(), string(ref), func(*generatorv1.Picture) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the error of the receiver became %v", err)
	}
}

func TestDamagedShardsAreNoticed(t *testing.T) {
	data := pack(t, some())
	ignore := func(*generatorv1.Picture) error { return nil }
	for name, damage := range map[string]func([]byte) []byte{
		"a bit of a picture": func(d []byte) []byte { d[bytes.Index(d, []byte{2, 77, 2, 77})+50] ^= 1; return d },
		"a bit of a header":  func(d []byte) []byte { d[3] ^= 1; return d },
		"a bit of a record":  func(d []byte) []byte { d[514] ^= 1; return d },
		"a bit after the end": func(d []byte) []byte {
			d[len(d)-1] ^= 1
			return d
		},
		"cut":             func(d []byte) []byte { return d[:700] },
		"cut at the end":  func(d []byte) []byte { return d[:len(d)-1024] },
		"cut to nothing":  func([]byte) []byte { return nil },
		"a picture less":  func(d []byte) []byte { return append(d[:1024:1024], make([]byte, 1024)...) },
		"another archive": func([]byte) []byte { return pack(t, some()[:1]) },
	} {
		s, ref, path := kept(t, data)
		if err := os.WriteFile(path, damage(bytes.Clone(data)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.readShard(t.Context(), string(ref), ignore); err == nil {
			t.Errorf("%s: read without an error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	s, ref, path := kept(t, data)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.readShard(t.Context(), string(ref), ignore); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a shard that is not there: %v", err)
	}
}

// TestOversizedFilesOfAShardAreRefused has a record that claims more than is ever written.
func TestOversizedFilesOfAShardAreRefused(t *testing.T) {
	var file bytes.Buffer
	w := tar.NewWriter(&file)
	if err := w.WriteHeader(&tar.Header{Name: "x/1.json", Size: maxRecord + 1, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, maxRecord+1); err != nil {
		t.Fatal(err)
	}
	s, ref, _ := kept(t, file.Bytes())
	if err := s.readShard(t.Context(), string(ref), func(*generatorv1.Picture) error { return nil }); err == nil {
		t.Error("it was read")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
