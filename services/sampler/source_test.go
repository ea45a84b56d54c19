package sampler

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/npy"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

func path(p *pack, ref artifact.Ref) string {
	return filepath.Join(p.dir, "blobs", "sha256", ref.Hex()[:2], ref.Hex())
}

// TestMappedBanksAreTheStreamedOnes for every method, whether it looks at one class or at all.
func TestMappedBanksAreTheStreamedOnes(t *testing.T) {
	p := newPack(t)
	streams := p.replica(t, p.bus, Config{})
	ask := func(r *replica, method string) ([]*samplerv1.Outlier, *samplerv1.SamplingReport) {
		out, report, err := reported(t, r.client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 9,
			Sampling: &samplerv1.Sampling{Method: method, K: 5, Noises: 50, Seed: 4}})
		if err != nil {
			t.Fatal(err)
		}
		return out, report
	}
	want, reports := map[string][]*samplerv1.Outlier{}, map[string]*samplerv1.SamplingReport{}
	for _, m := range Methods() {
		if m.Name() != "pca-shell" { // which takes one noise
			want[m.Name()], reports[m.Name()] = ask(streams, m.Name())
		}
	}
	ref := p.keep(t)
	streamed := p.pets.streams.Load()
	maps := p.replica(t, p.bus, Config{})
	for name := range want {
		got, report := ask(maps, name)
		if !slices.EqualFunc(got, want[name], func(a, b *samplerv1.Outlier) bool { return proto.Equal(a, b) }) || !proto.Equal(report, reports[name]) {
			t.Errorf("%s: mapped %v, %v\nstreamed %v, %v", name, got, report, want[name], reports[name])
		}
	}
	if n := p.pets.streams.Load(); streamed == 0 || n != streamed {
		t.Errorf("%d banks were streamed with a blob at hand, %d without", n-streamed, streamed)
	}
	// Without the file a replica that starts asks the embedder.
	if err := os.Remove(path(p, ref)); err != nil {
		t.Fatal(err)
	}
	again := p.replica(t, p.bus, Config{})
	if got, _ := ask(again, "knn"); !proto.Equal(got[0], want["knn"][0]) || p.pets.streams.Load() == streamed {
		t.Errorf("without the blob: %v", got)
	}
	if got, _ := ask(maps, "knn"); !proto.Equal(got[0], want["knn"][0]) {
		t.Errorf("what was mapped before: %v", got)
	}
}

func TestBanksThatAreNone(t *testing.T) {
	p := newPack(t)
	ref := p.keep(t)
	raw, err := os.ReadFile(path(p, ref))
	if err != nil {
		t.Fatal(err)
	}
	r := p.replica(t, p.bus, Config{})
	ask := func() error {
		_, err := sample(t, r.client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 1})
		return err
	}
	for name, damage := range map[string][]byte{
		"truncated": raw[:len(raw)-7], "truncated in the header": raw[:30], "a bit": append([]byte{raw[0] ^ 1}, raw[1:]...), "empty": {},
	} {
		if err := os.WriteFile(path(p, ref), damage, 0o640); err != nil {
			t.Fatal(err)
		}
		// Damage on this machine's disk: the error names the file, but no client needs the path.
		s := r.Service
		if _, err := s.prepare(t.Context(), "spaces/pets", "cat", nil); !errors.Is(err, artifact.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if ask() == nil {
			t.Errorf("%s: sampled", name)
		}
	}
	d := len(p.pets.banks[0].Data) / p.pets.banks[0].Rows
	wrong := func(shape ...int) []byte {
		n := 1
		for _, s := range shape {
			n *= s
		}
		var file bytes.Buffer
		if err := npy.Write(&file, make([]float32, n), shape...); err != nil {
			t.Fatal(err)
		}
		return file.Bytes()
	}
	for name, c := range map[string]struct {
		file []byte
		text string
	}{
		"a row less":   {wrong(74, d), "[74 16]"},
		"a row more":   {wrong(76, d), "[76 16]"},
		"narrower":     {wrong(75, d-1), "[75 15]"},
		"a vector":     {wrong(75 * d), "[1200]"},
		"doubles":      {bytes.Replace(raw, []byte("<f4"), []byte("<f8"), 1), "<f8"},
		"no NumPy":     {[]byte("PK\x03\x04 and so on, longer than a header"), "not a NumPy file"},
		"values short": {raw[:len(raw)-4], "truncated"}, // the digest is right, the array is not
	} {
		ref, err := artifact.PutBytes(t.Context(), p.blobs, c.file)
		if err != nil {
			t.Fatal(err)
		}
		p.pets.ref.Store(string(ref))
		if err := ask(); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
}

// TestMappedBanksByManyAtOnce lets requests push each other out of the cache while the collector runs.
func TestMappedBanksByManyAtOnce(t *testing.T) {
	p := newPack(t)
	p.keep(t)
	r := p.replica(t, p.bus, Config{Prepared: 1})
	ask := func(class string, k int32) []*samplerv1.Outlier {
		out, err := sample(t, r.client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: class, Count: 40,
			Sampling: &samplerv1.Sampling{K: k, Select: 8, Pick: 4, Noises: 20, Keep: 2}})
		if err != nil {
			t.Error(err)
		}
		return out
	}
	want := map[string][]*samplerv1.Outlier{}
	for _, class := range pet {
		want[class] = ask(class, 5)
	}
	var group sync.WaitGroup
	for i := range 3 {
		group.Go(func() {
			for n := range 12 {
				class := pet[(i+n)%3]
				if got := ask(class, 5); !slices.EqualFunc(got, want[class], func(a, b *samplerv1.Outlier) bool { return proto.Equal(a, b) }) {
					t.Errorf("%s differs", class)
				}
				runtime.GC()
			}
		})
	}
	group.Wait()
}

// TestMappedBankOutlivesTheCache looks at what the kernel has mapped while a class that the cache has dropped is sampled.
func TestMappedBankOutlivesTheCache(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc/self/maps")
	}
	p := newPack(t)
	ref := p.keep(t)
	maps := func() int {
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), path(p, ref))
	}
	r := p.replica(t, p.bus, Config{Prepared: 1})
	func() {
		w, err := r.prepare(t.Context(), "spaces/pets", "cat", few(""))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = w.ready.sampler.Sample(t.Context(), Range{Class: 1, Count: 100}, func(Outlier) error {
			if n++; n == 10 {
				p.pets.ref.Store(two) // trained again: from here on the stream
				if _, err := r.prepare(t.Context(), "spaces/pets", "ant", few("")); err != nil {
					return err
				}
				if len(r.prepared.kept) != 1 || r.prepared.order[0].class != "ant" {
					t.Errorf("the cache holds %v", r.prepared.order)
				}
			}
			if n%10 == 0 {
				runtime.GC()
				if maps() != 1 {
					t.Errorf("after %d samples the bank is mapped %d times", n, maps())
				}
			}
			return nil
		})
		if err != nil || n != 100 {
			t.Errorf("%d samples, %v", n, err)
		}
	}()
	for began := time.Now(); maps() > 0; runtime.GC() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("nobody uses the bank, and it is mapped")
		}
	}
}
