package modelstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/hub"
	"github.com/dreamood/dreamood/internal/hub/hubtest"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

const tiny = "../diffusion/testdata/tiny"

func copyTiny(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// withWeights moves a weight of the U-Net to unet/weights.pb.
func withWeights(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "unet", "model.onnx")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxpb.Unmarshal(data)
	if err != nil {
		t.Fatal(err)
	}
	w := m.Graph.Initializer[0]
	write(t, filepath.Join(dir, "unet", "weights.pb"), string(w.RawData))
	w.RawData, w.DataLocation = nil, onnxpb.TensorProto_EXTERNAL
	w.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: "weights.pb"}}
	if data, err = onnxpb.Marshal(m); err != nil {
		t.Fatal(err)
	}
	write(t, path, string(data))
}

func TestAddVerifyReplaceRemove(t *testing.T) {
	ctx := t.Context()
	src := copyTiny(t)
	withWeights(t, src)
	write(t, filepath.Join(src, "README.md"), "what it is")
	write(t, filepath.Join(src, "unet", "diffusion_pytorch_model.bin"), "not wanted")
	s := Open(filepath.Join(t.TempDir(), "models"))
	var last, of int64
	first, err := s.Add(ctx, "sd", src, Options{Progress: func(_ string, done, total int64) { last, of = done, total }})
	if err != nil {
		t.Fatal(err)
	}
	if last != of || of < 1_000_000 {
		t.Errorf("progress ended at %d of %d", last, of)
	}
	digest, differences, err := s.Verify(ctx, "sd", nil)
	want, _ := diffusion.Digest(src)
	if err != nil || len(differences) > 0 || digest != want || first.Digest != want {
		t.Errorf("%s, %v, %v; want %s", digest, differences, err, want)
	}
	var paths []string
	for _, f := range first.Files {
		paths = append(paths, f.Path)
	}
	if !slices.Contains(paths, "unet/weights.pb") || !slices.Contains(paths, "README.md") || slices.Contains(paths, "unet/diffusion_pytorch_model.bin") {
		t.Errorf("files %v", paths)
	}
	if _, err := s.Add(ctx, "sd", src, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	old, err := filepath.EvalSymlinks(s.path("sd"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "tokenizer", "tokenizer_config.json"), `{"model_max_length": 16}`)
	second, err := s.Add(ctx, "sd", src, Options{Replace: true})
	if err != nil || second.Digest == first.Digest {
		t.Fatalf("%+v, %v", second, err)
	}
	if now, err := filepath.EvalSymlinks(s.path("sd")); err != nil || now == old {
		t.Errorf("the name still leads to %s, %v", now, err)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the old version is gone at once: %v", err)
	}
	s.Grace = 0
	if _, err := s.Add(ctx, "sd", src, Options{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if versions, _ := os.ReadDir(s.inner("versions")); len(versions) != 1 {
		t.Errorf("%d versions are kept", len(versions))
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Err != nil || list[0].Manifest.Source.Folder != src || list[0].Description.Width != 32 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.Remove(ctx, "sd"); err != nil {
		t.Fatal(err)
	}
	if versions, _ := os.ReadDir(s.inner("versions")); len(versions) != 0 {
		t.Errorf("%d versions are left", len(versions))
	}
	if err := s.Remove(ctx, "sd"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	s := Open(t.TempDir())
	if _, err := s.Add(t.Context(), "sd", tiny, Options{}); err != nil {
		t.Fatal(err)
	}
	dir := s.path("sd")
	config := filepath.Join(dir, "tokenizer", "merges.txt")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	write(t, config, string(data))
	write(t, filepath.Join(dir, "vae_decoder", "config.json"), "{}")
	write(t, filepath.Join(dir, "unet", "more.bin"), "x")
	if err := errors.Join(os.Remove(filepath.Join(dir, "unet", "config.json")), os.Remove(filepath.Join(dir, "scheduler", "scheduler_config.json")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "scheduler", "scheduler_config.json"))); err != nil {
		t.Fatal(err)
	}
	_, list, err := s.Verify(t.Context(), "sd", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(list)
	for _, want := range []string{"tokenizer/merges.txt has sha256", "vae_decoder/config.json has 2 bytes", "unet/more.bin is not in the manifest", "unet/config.json is missing",
		"scheduler/scheduler_config.json is not a regular file", "links to"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not named in %s", want, got)
		}
	}
	if _, _, err := s.Verify(t.Context(), "none", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	if _, _, err := s.Verify(t.Context(), "../x", nil); err == nil {
		t.Error("a path was taken for a name")
	}
}

// TestFoldersOfOthers are listed and verified, and neither replaced nor removed.
func TestFoldersOfOthers(t *testing.T) {
	s := Open(t.TempDir())
	if err := os.CopyFS(s.path("hand"), os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.dir, "broken", "model_index.json"), "{}")
	write(t, filepath.Join(s.dir, "notes.txt"), "x")
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Name != "broken" || list[0].Err == nil || list[1].Err != nil || list[1].Manifest != nil {
		t.Errorf("%+v, %v", list, err)
	}
	digest, differences, err := s.Verify(t.Context(), "hand", nil)
	if err != nil || len(differences) > 0 || len(digest) != 64 {
		t.Errorf("%q, %v, %v", digest, differences, err)
	}
	if _, differences, err := s.Verify(t.Context(), "broken", nil); err != nil || len(differences) != 1 {
		t.Errorf("broken: %v, %v", differences, err)
	}
	if err := s.Remove(t.Context(), "hand"); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if _, err := s.Add(t.Context(), "hand", tiny, Options{Replace: true}); !errors.Is(err, ErrForeign) {
		t.Errorf("add: %v", err)
	}
}

// TestLinks: the cache of the Hugging Face Hub is one of links, and its models can be added; a link that leaves is refused.
func TestLinks(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "models--org--model")
	snapshot := filepath.Join(cache, "snapshots", "abc")
	n := 0
	err := filepath.WalkDir(tiny, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(tiny, path)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		blob := filepath.Join(cache, "blobs", fmt.Sprint(n))
		write(t, blob, string(data))
		link := filepath.Join(snapshot, rel)
		to, err := filepath.Rel(filepath.Dir(link), blob)
		return errors.Join(err, os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(to, link))
	})
	if err != nil {
		t.Fatal(err)
	}
	s := Open(t.TempDir())
	if _, err := s.Add(t.Context(), "cached", snapshot, Options{}); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(s.inner("versions"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			t.Errorf("%s: a link, %v", path, err)
		}
		return nil
	})
	for link, to := range map[string]string{"unet/config.json": "/etc/passwd", "tokenizer/vocab.json": "../../../outside", "unet": "/etc"} {
		src := copyTiny(t)
		write(t, filepath.Join(src, "..", "..", "outside"), "{}")
		path := filepath.Join(src, filepath.FromSlash(link))
		if err := errors.Join(os.RemoveAll(path), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Add(t.Context(), "linked", src, Options{}); err == nil {
			t.Errorf("%s -> %s was followed", link, to)
		} else if _, err := os.Lstat(s.path("linked")); err == nil {
			t.Errorf("%s: the name is there", link)
		}
	}
}

// TestHostileModelsAreNotAdded, and leave nothing.
func TestHostileModelsAreNotAdded(t *testing.T) {
	src := copyTiny(t)
	write(t, filepath.Join(src, "vae_decoder", "model.onnx"), "\x00\x01")
	s := Open(t.TempDir())
	_, err := s.Add(t.Context(), "bad", src, Options{})
	if err == nil || !strings.Contains(err.Error(), "vae_decoder") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(s.inner()); len(left) != 1 { // the lock
		t.Errorf("%v is left", left)
	}
}

// TestCancelledAddLeavesNothing.
func TestCancelledAddLeavesNothing(t *testing.T) {
	s := Open(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Add(ctx, "sd", tiny, Options{Progress: func(string, int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if list, _ := s.List(); len(list) != 0 {
		t.Errorf("%v is there", list)
	}
}

// repository is the tiny model with external data, as a hub holds it.
func repository(t *testing.T) map[string][]byte {
	src := copyTiny(t)
	withWeights(t, src)
	files := map[string][]byte{"unet/diffusion_pytorch_model.safetensors": []byte("large"), "README.md": []byte("card")}
	err := filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(src, path)
		files[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var large = []string{"unet/model.onnx", "unet/weights.pb", "text_encoder/model.onnx", "vae_decoder/model.onnx"}

func client(t *testing.T, h *hubtest.Hub) *hub.Client {
	t.Helper()
	c, err := hub.New(hub.Config{Endpoint: h.URL(), Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPull(t *testing.T) {
	h := hubtest.New(t, repository(t), large...)
	s := Open(t.TempDir())
	m, changed, err := s.Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{})
	if err != nil || !changed || m.Source.Commit != hubtest.Commit {
		t.Fatalf("%+v, %t, %v", m, changed, err)
	}
	if _, list, err := s.Verify(t.Context(), "sd", nil); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	asked := fmt.Sprint(h.Asked())
	if strings.Contains(asked, "safetensors") || !strings.Contains(asked, "unet/weights.pb") {
		t.Errorf("asked %s", asked)
	}
	if left, _ := os.ReadDir(s.inner("partial")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	n := len(h.Asked())
	if _, changed, err := s.Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{}); err != nil || changed || len(h.Asked()) != n+1 {
		t.Errorf("again: %t, %v, asked %v", changed, err, h.Asked()[n:])
	}
	// Damaged, it is pulled again.
	write(t, filepath.Join(s.path("sd"), "tokenizer", "vocab.json"), "{}")
	if _, changed, err := s.Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{}); err != nil || !changed {
		t.Errorf("damaged: %t, %v", changed, err)
	}
	if _, list, err := s.Verify(t.Context(), "sd", nil); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestPullGoesOn after the process was stopped in the middle of the largest file: no byte is sent twice.
func TestPullGoesOn(t *testing.T) {
	files := repository(t)
	h := hubtest.New(t, files, large...)
	s := Open(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := s.Pull(ctx, client(t, h), "sd", "org/model", "main", Options{Progress: func(file string, done, _ int64) {
		if file == "unet/model.onnx" && done > 500_000 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.path("sd")); err == nil {
		t.Error("half a model has a name")
	}
	n := len(h.Asked())
	if _, _, err := s.Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{}); err != nil {
		t.Fatal(err)
	}
	rest := h.Asked()[n:]
	whole := 0
	for _, a := range rest {
		if strings.HasPrefix(a, "storage GET /blob/text_encoder/model.onnx") {
			whole++
		}
	}
	if whole != 0 {
		t.Errorf("a file that was whole came again: %v", rest)
	}
}

func TestPullRefusals(t *testing.T) {
	whole := repository(t)
	without := func(name string) map[string][]byte {
		files := map[string][]byte{}
		for k, v := range whole {
			if k != name {
				files[k] = v
			}
		}
		return files
	}
	for want, h := range map[string]*hubtest.Hub{
		"optimum-cli export onnx --model org/model": hubtest.New(t, without("unet/model.onnx"), large...),
		"external data in unet/weights.pb":          hubtest.New(t, without("unet/weights.pb"), large...),
		"its checksum is": func() *hubtest.Hub {
			h := hubtest.New(t, whole, large...)
			h.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/blob/unet/model.onnx") {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, len(whole["unet/model.onnx"]))))
					return true
				}
				return false
			}
			return h
		}(),
	} {
		s := Open(t.TempDir())
		_, _, err := s.Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Lstat(s.path("sd")); err == nil {
			t.Errorf("%s: the model is there", want)
		}
	}
	// A model from elsewhere is not replaced unless that is said.
	s := Open(t.TempDir())
	if _, err := s.Add(t.Context(), "sd", tiny, Options{}); err != nil {
		t.Fatal(err)
	}
	c := client(t, hubtest.New(t, whole, large...))
	if _, _, err := s.Pull(t.Context(), c, "sd", "org/model", "main", Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	if _, changed, err := s.Pull(t.Context(), c, "sd", "org/model", "main", Options{Replace: true}); err != nil || !changed {
		t.Errorf("replace: %v", err)
	}
	if err := s.room(1 << 60); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("an exabyte: %v", err)
	}
}

// TestTwoProcessesAtOnce: the second waits, and finds the work done.
func TestTwoProcessesAtOnce(t *testing.T) {
	h := hubtest.New(t, repository(t), large...)
	dir := t.TempDir()
	var wg sync.WaitGroup
	results := make(chan bool, 2)
	for range 2 { // each with a store of its own: the lock is one of files
		wg.Go(func() {
			_, changed, err := Open(dir).Pull(t.Context(), client(t, h), "sd", "org/model", "main", Options{})
			if err != nil {
				t.Error(err)
			}
			results <- changed
		})
	}
	wg.Wait()
	if a, b := <-results, <-results; a == b {
		t.Errorf("pulled by both or none: %t %t", a, b)
	}
	n := 0
	for _, a := range h.Asked() {
		if strings.HasPrefix(a, "storage GET /blob/unet/model.onnx") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the U-Net came %d times", n)
	}
}

// TestKilledAdd kills a process while it copies; what it left goes with the next one.
func TestKilledAdd(t *testing.T) {
	if dir := os.Getenv("DREAMOOD_TEST_ADD"); dir != "" {
		Open(dir).Add(context.Background(), "sd", tiny, Options{Progress: func(file string, _, _ int64) {
			if file == "unet/model.onnx" {
				fmt.Println("copying")
				select {}
			}
		}})
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=TestKilledAdd$")
	cmd.Env = append(os.Environ(), "DREAMOOD_TEST_ADD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	s := Open(dir)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := s.Add(t.Context(), "sd", tiny, Options{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(s.inner("sd.tmp-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
