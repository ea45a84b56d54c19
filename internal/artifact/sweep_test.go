package artifact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// hoard is a store with blobs that were put two days ago.
func hoard(t *testing.T, blobs ...string) (*Files, []Ref) {
	t.Helper()
	f, err := NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]Ref, len(blobs))
	for i, blob := range blobs {
		refs[i] = put(t, f, blob)
		age(t, f, refs[i])
	}
	return f, refs
}

func put(t *testing.T, f *Files, blob string) Ref {
	t.Helper()
	ref, err := PutBytes(t.Context(), f, []byte(blob))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func age(t *testing.T, f *Files, ref Ref) {
	t.Helper()
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(f.path(ref), old, old); err != nil {
		t.Fatal(err)
	}
}

func sweep(t *testing.T, f *Files, s Sweep) Swept {
	t.Helper()
	if s.Live == nil {
		s.Live = func(Ref) bool { return false }
	}
	swept, err := f.Sweep(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

func has(t *testing.T, f *Files, ref Ref, want string) {
	t.Helper()
	got, err := ReadAll(t.Context(), f, ref, 1<<20)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", ref, got, err, want)
	}
}

func amount(n ...string) (a Amount) {
	for _, s := range n {
		a.Blobs++
		a.Bytes += int64(len(s))
	}
	return a
}

func TestWhatNothingNamesGoesInTwoSteps(t *testing.T) {
	f, refs := hoard(t, "named", "nameless", "forgotten for a while")
	young := put(t, f, "young")
	live := func(ref Ref) bool { return ref == refs[0] }
	want := Swept{Live: amount("named"), Young: amount("young"), Trashed: amount("nameless", "forgotten for a while")}
	if got := sweep(t, f, Sweep{Live: live, Grace: 24 * time.Hour, DryRun: true}); got != want {
		t.Errorf("a rehearsal: %+v, want %+v", got, want)
	}
	if _, err := os.Stat(f.path(refs[1])); err != nil {
		t.Fatalf("after a rehearsal: %v", err)
	}
	if got := sweep(t, f, Sweep{Live: live, Grace: 24 * time.Hour}); got != want {
		t.Errorf("the first sweep: %+v, want %+v", got, want)
	}
	want = Swept{Live: amount("named"), Young: amount("young", "nameless", "forgotten for a while")}
	if got := sweep(t, f, Sweep{Live: live, Grace: 24 * time.Hour}); got != want {
		t.Errorf("a sweep at once: %+v, want %+v", got, want)
	}
	// Somebody names one of them after all.
	found := func(ref Ref) bool { return ref == refs[0] || ref == refs[2] || ref == young }
	want = Swept{Live: amount("named", "young", "forgotten for a while"), Recalled: amount("forgotten for a while"), Removed: amount("nameless")}
	if got := sweep(t, f, Sweep{Live: found}); got != want {
		t.Errorf("the last sweep: %+v, want %+v", got, want)
	}
	has(t, f, refs[0], "named")
	has(t, f, refs[2], "forgotten for a while")
	has(t, f, young, "young")
	if _, err := f.Stat(t.Context(), refs[1]); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
	if ref := put(t, f, "nameless"); ref != refs[1] {
		t.Error("put again under another name")
	}
	has(t, f, refs[1], "nameless")
}

func TestReadersTakeBlobsOutOfTheTrash(t *testing.T) {
	f, refs := hoard(t, "opened", "asked for", "mapped", "put")
	sweep(t, f, Sweep{Grace: time.Hour})
	for _, ref := range refs {
		if _, err := os.Stat(f.trashed(ref)); err != nil {
			t.Fatalf("it is not in the trash: %v", err)
		}
	}
	r, err := f.Open(t.Context(), refs[0])
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if n, err := f.Stat(t.Context(), refs[1]); err != nil || n != int64(len("asked for")) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if m, err := f.Map(t.Context(), refs[2]); err != nil || string(m.Bytes()) != "mapped" {
		t.Errorf("mapped out of the trash: %v", err)
	}
	put(t, f, "put")
	want := Swept{Young: amount("opened", "asked for", "mapped", "put"), Removed: amount("put")} // of which there are two now
	sweep(t, f, Sweep{Grace: time.Hour})
	time.Sleep(50 * time.Millisecond) // file systems date by a clock that ticks every 4 or 10 ms
	got := sweep(t, f, Sweep{Grace: time.Millisecond, DryRun: true})
	if got.Trashed != want.Young || got.Removed != want.Removed {
		t.Errorf("%+v", got)
	}
	has(t, f, refs[3], "put")
}

// TestPutIsNotSwept in every order of mark, put and sweep.
func TestPutIsNotSwept(t *testing.T) {
	f, refs := hoard(t, "again")
	put(t, f, "again")
	if got := sweep(t, f, Sweep{Grace: time.Hour}); got.Young != amount("again") {
		t.Errorf("mark, put, sweep: %+v", got)
	}
	// Put after the sweep has looked at the file's time, and before it moves it.
	age(t, f, refs[0])
	got := sweep(t, f, Sweep{Grace: time.Hour, Live: func(Ref) bool { put(t, f, "again"); return false }})
	if got.Young != amount("again") || got.Trashed != amount() {
		t.Errorf("a put in the middle of a sweep: %+v", got)
	}
	if _, err := os.Stat(f.path(refs[0])); err != nil {
		t.Errorf("it was taken: %v", err)
	}
	// Put while it is in the trash: written anew, and the trash may go.
	age(t, f, refs[0])
	sweep(t, f, Sweep{Grace: time.Hour})
	put(t, f, "again")
	time.Sleep(50 * time.Millisecond) // file systems date by a clock that ticks every 4 or 10 ms
	if got := sweep(t, f, Sweep{Grace: time.Millisecond, Live: func(Ref) bool { return true }}); got.Live != amount("again") {
		t.Errorf("put while in the trash: %+v", got)
	}
	has(t, f, refs[0], "again")
}

// TestMovedAndNotYetDated: a sweep that died, or another one, after the move leaves a file with an old time in the trash.
func TestMovedAndNotYetDated(t *testing.T) {
	f, refs := hoard(t, "just moved")
	if err := os.Rename(f.path(refs[0]), f.trashed(refs[0])); err != nil {
		t.Fatal(err)
	}
	if got := sweep(t, f, Sweep{Grace: time.Hour}); got.Removed != amount() || got.Young != amount("just moved") {
		t.Errorf("%+v", got)
	}
	has(t, f, refs[0], "just moved")
}

func TestLeftoversAndStrangers(t *testing.T) {
	f, _ := hoard(t, "x")
	old := time.Now().Add(-25 * time.Hour)
	files := []string{
		filepath.Join(f.tmp, "put-1"), filepath.Join(f.tmp, "put-2"), filepath.Join(f.blobs, "notes"), filepath.Join(f.trash, "README"),
		filepath.Join(f.blobs, RefOf([]byte("x")).Hex()[:2], "x.txt"),
	}
	for i, file := range files {
		if err := os.WriteFile(file, []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
		if i != 1 { // put-2 is still written
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := sweep(t, f, Sweep{Grace: time.Hour})
	if got.Partial != amount("?") || got.Strange != amount("?", "?", "?") {
		t.Errorf("%+v", got)
	}
	for i, file := range files {
		if _, err := os.Stat(file); (err == nil) == (i == 0) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSweepOfManyHands(t *testing.T) {
	const (
		grace    = 400 * time.Millisecond
		duration = 4 * time.Second
		contents = 60
	)
	f, err := NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var mu sync.Mutex
	named := map[Ref]int{} // by how many; what a catalog is
	name := func(ref Ref, by int) {
		mu.Lock()
		defer mu.Unlock()
		if named[ref] += by; named[ref] == 0 {
			delete(named, ref)
		}
	}
	var group sync.WaitGroup
	var total Swept
	for range 2 { // two sweeps at once, as two processes may
		group.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				live := map[Ref]bool{}
				for ref := range named {
					live[ref] = true
				}
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				s, err := f.Sweep(context.Background(), Sweep{Grace: grace, Live: func(ref Ref) bool { return live[ref] }})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				total.Trashed.Blobs += s.Trashed.Blobs
				total.Removed.Blobs += s.Removed.Blobs
				mu.Unlock()
			}
		})
	}
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for ctx.Err() == nil {
				text := fmt.Sprintf("content %d", random.IntN(contents))
				began := time.Now()
				ref, err := f.Put(context.Background(), bytes.NewReader([]byte(text)))
				if err != nil {
					t.Error(err)
					return
				}
				name(ref, 1)
				if time.Since(began) < grace { // whoever names a blob later than that has been warned
					for range 3 {
						time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
						if got, err := ReadAll(context.Background(), f, ref, 100); err != nil || string(got) != text {
							t.Errorf("a blob that is named: %q, %v", got, err)
						}
					}
				}
				name(ref, -1)
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			}
		})
	}
	group.Wait()
	t.Logf("%d moved to the trash, %d removed", total.Trashed.Blobs, total.Removed.Blobs)
	if total.Trashed.Blobs == 0 {
		t.Error("the sweeps had nothing to do")
	}
}
