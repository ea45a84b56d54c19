package artifact

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// TestSweepOnAFullAndOnAReadOnlyDisk mounts a small file system, where it may.
func TestSweepOnAFullAndOnAReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := put(t, f, "kept")
	live := func(ref Ref) bool { return ref == kept }
	random := rand.NewChaCha8([32]byte{1})
	blob := make([]byte, 100<<10)
	n := int64(0)
	for ; err == nil; n++ {
		_, _ = random.Read(blob)
		_, err = PutBytes(t.Context(), f, blob)
	}
	if n--; !errors.Is(err, syscall.ENOSPC) || n < 5 {
		t.Fatalf("%d blobs on a small disk, %v", n, err)
	}
	time.Sleep(20 * time.Millisecond)
	if got, err := f.Sweep(t.Context(), Sweep{Live: live, Grace: time.Millisecond}); err != nil || got.Trashed.Blobs != n {
		t.Errorf("a sweep on a full disk: %+v, %v", got, err)
	}
	time.Sleep(20 * time.Millisecond)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Sweep(t.Context(), Sweep{Live: live, Grace: time.Millisecond}); !errors.Is(err, syscall.EROFS) || got.Removed.Blobs != 0 || got.Live.Blobs != 1 {
		t.Errorf("a sweep of a disk that is read-only: %+v, %v", got, err)
	}
	has(t, f, kept, "kept")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Sweep(t.Context(), Sweep{Live: live, Grace: time.Millisecond}); err != nil || got.Removed.Blobs != n {
		t.Errorf("the second sweep: %+v, %v", got, err)
	}
	has(t, f, kept, "kept")
	if _, err := PutBytes(t.Context(), f, blob); err != nil {
		t.Errorf("put after the sweep: %v", err)
	}
}
