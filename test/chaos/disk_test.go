package chaos

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/runs"
)

// small mounts a file system of a few MiB.
func small(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a small file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// fill writes until the file system of dir is full, and returns what frees it again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filled with %v", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// TestBlobDiskFull fills the disk of the blobs. Attempts fail, saying why, and succeed when there is room again.
func TestBlobDiskFull(t *testing.T) {
	t.Parallel()
	cfg := quick
	cfg.MaxAttempts, cfg.MaxBackoff = 100, 500*time.Millisecond
	w := bareWorld(t, cfg)
	small(t, filepath.Join(w.part.Blobs, "blobs"), "2m")
	for _, folder := range []string{"sha256", "tmp"} {
		if err := os.MkdirAll(filepath.Join(w.part.Blobs, "blobs", folder), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	w.startNATS()
	w.look()
	w.audit()
	free := fill(t, filepath.Join(w.part.Blobs, "blobs"))
	w.part.Script = script[:4]
	w.start("worker")
	client := w.start("client")
	w.eventually("the run says why it does not go on", func(ctx context.Context) error {
		run, err := w.runs.Get(ctx, w.id("plain"))
		if err == nil && !strings.Contains(run.Progress.Message, "no space left on device") {
			err = errors.New(run.Progress.Message)
		}
		return err
	})
	free()
	w.finish(client)
	w.passes(w.part.Script)
}

// TestQueueDiskFull fills the disk of the NATS server. Nobody is told that a run was accepted which was not, what was
// accepted stays, and when there is room again and the server was started again everything goes on: nats-server 2.15.2
// does not write to a stream any more that it could not write to once.
func TestQueueDiskFull(t *testing.T) {
	t.Parallel()
	w := bareWorld(t, quick)
	small(t, filepath.Join(w.dir, "nats"), "24m")
	w.startNATS()
	w.look()
	w.audit()
	w.part.Script = script[:4]
	for _, p := range w.part.Script {
		run, _, err := w.runs.Submit(t.Context(), p.spec())
		if err != nil {
			t.Fatal(err)
		}
		w.accept(p.Name, run.ID)
	}
	free := fill(t, filepath.Join(w.dir, "nats"))
	w.start("worker") // it cannot even open the queue
	late := play{Name: "late", Shards: 2, End: runs.Succeeded}
	if run, _, err := w.runs.Submit(t.Context(), late.spec()); err == nil {
		t.Errorf("accepted on a full disk: %+v", run)
	} else if status := runs.Fault(err); fault.ReasonOf(status) != fault.Unavailable || !strings.Contains(status.Error(), "disk") {
		t.Errorf("on a full disk: %v", status)
	}
	free()
	w.nats.kill()
	w.startNATS()
	w.part.Script = append(w.part.Script[:len(w.part.Script):len(w.part.Script)], late)
	w.finish(w.start("client"))
	w.passes(w.part.Script)
}
