package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/stage"
)

const tiny = "../diffusion/testdata/tiny"

var onnxOne = onnx.Config{Threads: 1}

// supervise makes a supervisor of engine processes of this executable.
func supervise(t testing.TB, mode string, cfg Config) *Supervisor {
	t.Helper()
	cfg.Command, cfg.Env = []string{os.Args[0]}, []string{modeEnv + "=" + mode}
	cfg.Pipeline.ONNX = onnxOne
	if cfg.Pipeline.Batch == 0 {
		cfg.Pipeline.Batch = 2
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = time.Millisecond
	}
	cfg.MaxBackoff = 100 * time.Millisecond
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t testing.TB, s *Supervisor) *Pipeline {
	t.Helper()
	dir, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dogs(n int) []diffusion.Item {
	items := make([]diffusion.Item, n)
	for i := range items {
		items[i] = diffusion.Item{Prompt: "a photo of a dog", Negative: "a cat", Key: philox.Key{Index: uint64(i)}}
	}
	return items
}

func same(a, b []diffusion.Image) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Pix, b[i].Pix) || a[i].Width != b[i].Width {
			return false
		}
	}
	return true
}

// The process gives what a pipeline in this process gives: pictures, progress, previews, check-points to go on from,
// parts of the work, problems, and what the model is.
func TestProcessGivesWhatThisOneGives(t *testing.T) {
	inline, err := diffusion.Open(tiny, diffusion.Config{ONNX: onnxOne, Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer inline.Close()
	p := open(t, supervise(t, "engine", Config{}))
	opts := diffusion.Options{Steps: 6, Guidance: 4, Scheduler: diffusion.PLMS, PreviewEvery: 2}
	type heard struct {
		progress string
		previews []diffusion.Preview
		parts    []string
	}
	listen := func(m interface {
		Render(context.Context, []diffusion.Item, diffusion.Options) ([]diffusion.Image, error)
	}) ([]diffusion.Image, heard) {
		var h heard
		opts.Progress = func(done, total int) { h.progress += fmt.Sprint(done, "/", total, " ") }
		opts.Preview = func(v diffusion.Preview) { h.previews = append(h.previews, v) }
		ctx := stage.Listen(t.Context(), func(p stage.Part) { h.parts = append(h.parts, p.Name) })
		images, err := m.Render(ctx, dogs(3), opts)
		if err != nil {
			t.Fatal(err)
		}
		return images, h
	}
	want, here := listen(inline)
	got, there := listen(p)
	if !same(got, want) {
		t.Error("the pictures are others")
	}
	if here.progress != there.progress || len(here.parts) == 0 || fmt.Sprint(here.parts) != fmt.Sprint(there.parts) {
		t.Errorf("heard %+v, here %+v", there, here)
	}
	if len(there.previews) != len(here.previews) || len(here.previews) == 0 {
		t.Fatalf("%d previews, here %d", len(there.previews), len(here.previews))
	}
	for i, v := range there.previews {
		if w := here.previews[i]; v.First != w.First || v.Done != w.Done || !same(v.Images, w.Images) {
			t.Errorf("preview %d is another one", i)
		}
	}
	a, b := [2]string{}, [2]string{}
	a[0], _ = inline.Digest()
	b[0], _ = p.Digest()
	ids, err := p.Tokens("a photo of a dog")
	wanted, _ := inline.Tokens("a photo of a dog")
	if err != nil || a != b || fmt.Sprint(ids) != fmt.Sprint(wanted) || p.Width() != inline.Width() || p.LatentShape() != inline.LatentShape() {
		t.Errorf("about the model: %v %v, %v %v, %v", a, b, ids, wanted, err)
	}
	bad := []diffusion.Item{{Prompt: "a dog", Token: "cat", Embedding: make([]float32, p.Width())}}
	if here, there := inline.Check(bad, opts), p.Check(bad, opts); here == nil || there == nil || here.Error() != there.Error() {
		t.Errorf("a bad item: %v, here %v", there, here)
	}
	if _, err := p.Render(t.Context(), bad, opts); err == nil || errors.As(err, new(*CrashError)) {
		t.Errorf("a bad item ends with %v", err)
	}
}

// A process that is killed in the middle ends its work with a CrashError; the next one goes on from the check-point,
// and the pictures are the same.
func TestKilledInTheMiddle(t *testing.T) {
	s := supervise(t, "engine", Config{})
	p := open(t, s)
	opts := diffusion.Options{Steps: 40, Scheduler: diffusion.PLMS}
	want, err := p.Render(t.Context(), dogs(2), opts)
	if err != nil {
		t.Fatal(err)
	}
	var kept *diffusion.Checkpoint
	opts.Save = func(c diffusion.Checkpoint) { kept = &c }
	opts.Progress = func(done, _ int) {
		if done == 20 {
			if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	_, err = p.Render(t.Context(), dogs(2), opts)
	var crash *CrashError
	if !errors.As(err, &crash) || !strings.Contains(err.Error(), "SIGKILL") || fault.Permanent(err) || fault.ReasonOf(err) != fault.Internal {
		t.Fatalf("killed in the middle: %v", err)
	}
	if kept == nil {
		t.Fatal("no check-point came before")
	}
	calls := 0
	opts.From, opts.Progress = kept, func(done, total int) { calls = total }
	got, err := p.Render(t.Context(), dogs(2), opts)
	if err != nil || !same(got, want) || calls == 0 {
		t.Errorf("after it, from call %d on: %v", kept.Done, err)
	}
	if s.Starts() != 2 {
		t.Errorf("%d starts; want 2", s.Starts())
	}
}

// A panic in the process is told with its words, and a process that is stopped is killed and replaced.
func TestPanicsAndHangs(t *testing.T) {
	s := supervise(t, "engine", Config{Stall: 2 * time.Second, CancelWait: 300 * time.Millisecond})
	p := open(t, s)
	for prompt, says := range map[string]string{"panic": "panic: a defect in the engine", "stop": "showed no progress for 2s"} {
		_, err := p.Render(t.Context(), []diffusion.Item{{Prompt: prompt}}, diffusion.Options{Steps: 1})
		if !errors.As(err, new(*CrashError)) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", prompt, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Render(ctx, []diffusion.Item{{Prompt: "deaf"}}, diffusion.Options{Steps: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("work that does not hear of its cancel: %v", err)
	}
	if images, err := p.Render(t.Context(), dogs(1), diffusion.Options{Steps: 1}); err != nil || len(images) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}

// A cancel reaches the native run, and Render returns when that has.
func TestCancelReachesTheProcess(t *testing.T) {
	s := supervise(t, "engine", Config{})
	p := open(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked time.Time
	var kept []int
	_, err := p.Render(ctx, dogs(2), diffusion.Options{Steps: 900, Save: func(c diffusion.Checkpoint) { kept = append(kept, c.Done) }, Progress: func(done, _ int) {
		if done == 5 {
			asked = time.Now()
			cancel()
		}
	}})
	took := time.Since(asked)
	if !errors.Is(err, context.Canceled) || took > 5*time.Second || s.Starts() != 1 {
		t.Errorf("%v after %s, %d starts", err, took, s.Starts())
	}
	if len(kept) == 0 || kept[len(kept)-1] < 5 {
		t.Errorf("check-points after %v calls; want one of the end", kept)
	}
	t.Logf("%s from cancel to the return of the native engine", took.Round(100*time.Microsecond))
}

// Work that ends processes runs alone after the first time, so that others' work beside it is done, and is refused for
// good after the third.
func TestPoisonIsRefused(t *testing.T) {
	s := supervise(t, "engine", Config{})
	p := open(t, s)
	var others sync.WaitGroup
	begun := make(chan struct{})
	var once sync.Once
	tries := 0
	others.Go(func() { // innocent work beside it
		for {
			tries++
			_, err := p.Render(t.Context(), dogs(2), diffusion.Options{Steps: 60, Progress: func(int, int) { once.Do(func() { close(begun) }) }})
			if err == nil {
				return
			}
			if !errors.As(err, new(*CrashError)) || tries > 2 {
				t.Errorf("innocent work, try %d: %v", tries, err)
				return
			}
		}
	})
	<-begun
	killer := []diffusion.Item{{Prompt: "kill"}}
	for i := range poison {
		_, err := p.Render(t.Context(), killer, diffusion.Options{Steps: 1})
		var crash *CrashError
		if !errors.As(err, &crash) || crash.Times != i+1 {
			t.Errorf("time %d: %v", i+1, err)
		}
	}
	others.Wait()
	starts := s.Starts()
	if _, err := p.Render(t.Context(), killer, diffusion.Options{Steps: 1}); fault.ReasonOf(err) != fault.FailedPrecondition {
		t.Errorf("after %d times: %v", poison, err)
	} else {
		t.Log(err)
	}
	if images, err := p.Render(t.Context(), dogs(1), diffusion.Options{Steps: 1}); err != nil || len(images) != 1 || s.Starts() > starts+1 {
		t.Errorf("other work afterwards: %v, %d starts", err, s.Starts())
	}
	if tries != 2 {
		t.Errorf("innocent work was tried %d times; want 2", tries)
	}
}

// A process is replaced after so many pictures, and when it has grown too large, without a failure.
func TestReplacedToFreeMemory(t *testing.T) {
	for name, cfg := range map[string]Config{"pictures": {MaxPictures: 4}, "bytes": {MaxBytes: 1}} {
		s := supervise(t, "empty", cfg)
		p := open(t, s)
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 4 {
					if _, err := p.Render(t.Context(), dogs(1), diffusion.Options{}); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		clients.Wait()
		if s.Starts() < 3 {
			t.Errorf("%s: 16 pictures took %d processes", name, s.Starts())
		}
		t.Logf("%s: %d processes for 16 pictures", name, s.Starts())
	}
	s := supervise(t, "empty", Config{Replace: true})
	p := open(t, s)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Render(t.Context(), dogs(1), diffusion.Options{}); err != nil || s.Starts() != 2 {
		t.Errorf("after a model was closed: %v, %d processes", err, s.Starts())
	}
}

// A process that cannot start is tried again later and later.
func TestCrashLoopBacksOff(t *testing.T) {
	s, err := New(Config{Command: []string{"/bin/sh", "-c", "echo no such library >&2; exit 3"}, Backoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 4 {
		began := time.Now()
		_, err := s.Open("x")
		if !errors.As(err, new(*CrashError)) || !strings.Contains(err.Error(), "exit status 3: no such library") {
			t.Errorf("start %d: %v", i, err)
		}
		if wait := []time.Duration{0, 20, 40, 50}[i] * time.Millisecond; time.Since(began) < wait {
			t.Errorf("start %d came after %s; want %s at least", i, time.Since(began), wait)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits for the back-off ends with %v", err)
	}
}

// Fifty crashes leave nothing behind in this process.
func TestFiftyRestartsLeakNothing(t *testing.T) {
	s := supervise(t, "empty", Config{})
	p := open(t, s)
	count := func() (fds, goroutines int, memory int64) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		runtime.GC()
		return len(entries), runtime.NumGoroutine(), resident(os.Getpid())
	}
	crash := func() {
		if _, err := p.Render(t.Context(), dogs(1), diffusion.Options{}); err != nil && !errors.As(err, new(*CrashError)) {
			t.Fatal(err)
		}
		if pid := s.PID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			for syscall.Kill(pid, 0) == nil {
				time.Sleep(time.Millisecond)
			}
		}
	}
	for s.Starts() < 5 {
		crash()
	}
	fds, goroutines, memory := count()
	for s.Starts() < 55 {
		crash()
	}
	f, g, m := count()
	if f > fds+3 || g > goroutines+10 || m > memory+32<<20 {
		t.Errorf("after 50 restarts %d files, %d goroutines, %d MiB; before %d, %d, %d MiB", f, g, m>>20, fds, goroutines, memory>>20)
	}
	t.Logf("%d starts: %d → %d files, %d → %d goroutines, %d → %d MiB", s.Starts(), fds, f, goroutines, g, memory>>20, m>>20)
}

// The process ends with its parent, even one that is killed.
func TestDiesWithItsParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), modeEnv+"=parent")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || convErr != nil {
		t.Fatalf("%q, %v, %v", line, err, convErr)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("process %d does not run: %v", pid, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); running(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its parent", pid)
		}
	}
}

// running says whether a process is there and no zombie that waits for somebody to look at it.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(data, []byte(") "))
	return len(after) > 0 && after[0] != 'Z'
}

// Closing ends work under way and the process.
func TestCloseEndsWork(t *testing.T) {
	s := supervise(t, "engine", Config{})
	p := open(t, s)
	ended := make(chan error)
	begun := make(chan struct{})
	var once sync.Once
	go func() {
		_, err := p.Render(t.Context(), dogs(2), diffusion.Options{Steps: 900, Progress: func(int, int) { once.Do(func() { close(begun) }) }})
		ended <- err
	}()
	<-begun
	pid := s.PID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("work under way ended with %v", err)
	}
	if running(pid) {
		t.Error("the process is there")
	}
	if _, err := p.Render(t.Context(), dogs(1), diffusion.Options{}); !errors.Is(err, ErrClosed) {
		t.Errorf("work after it: %v", err)
	}
}

// BenchmarkOverhead renders in this process and in the engine's in turn: batches of the reference model, 20 guided steps.
// The ratio is that of the shortest times, since a busy machine only ever adds.
func BenchmarkOverhead(b *testing.B) {
	dir, err := filepath.Abs("../../models/reference")
	if err != nil {
		b.Fatal(err)
	}
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprintf("batch%d", batch), func(b *testing.B) {
			cfg := diffusion.Config{Batch: batch, ONNX: onnxOne}
			inline, err := diffusion.Open(dir, cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer inline.Close()
			process, err := supervise(b, "engine", Config{Pipeline: cfg}).Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			best := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for i, p := range []Model{inline, process} {
					began := time.Now()
					if _, err := p.Render(b.Context(), dogs(batch), diffusion.Options{Steps: 20, Guidance: 3}); err != nil {
						b.Fatal(err)
					}
					best[i] = min(best[i], time.Since(began))
				}
			}
			b.ReportMetric(float64(batch)/best[0].Seconds(), "inline-pictures/s")
			b.ReportMetric(float64(batch)/best[1].Seconds(), "process-pictures/s")
			b.ReportMetric(best[0].Seconds()/best[1].Seconds(), "process/inline")
		})
	}
}
