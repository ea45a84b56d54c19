package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dreamood/dreamood/internal/hub/hubtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const commit = hubtest.Commit

func newFake(t *testing.T, files map[string][]byte, large ...string) *hubtest.Hub {
	return hubtest.New(t, files, large...)
}

func client(t *testing.T, f *hubtest.Hub, token string) *Client {
	t.Helper()
	c, err := New(Config{Endpoint: f.URL(), Token: token, Backoff: time.Millisecond, Attempts: 3, Stall: 20 * time.Second, Note: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fetch downloads a file and returns what is there.
func fetch(t *testing.T, c *Client, name, dir string) ([]byte, error) {
	t.Helper()
	info, err := c.Stat(t.Context(), "org/model", commit, name)
	if err != nil {
		return nil, err
	}
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := c.Fetch(t.Context(), "org/model", commit, info, to, nil); err != nil {
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s is there after an error", name)
		}
		return nil, err
	}
	return os.ReadFile(to)
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 2654435761 >> 13)
	}
	return b
}

func TestFetch(t *testing.T) {
	weights, config := content(3<<20), []byte(`{"a": 1}`)
	f := newFake(t, map[string][]byte{"unet/model.onnx": weights, "unet/config.json": config, "empty": {}}, "unet/model.onnx")
	c := client(t, f, "hf_secret")
	r, err := c.Revision(t.Context(), "org/model", "refs/pr/1")
	if err != nil || r.Commit != commit || len(r.Files) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	dir := t.TempDir()
	for name, want := range f.Files {
		got, err := fetch(t, c, name, dir)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for _, token := range f.Tokens() {
		if host, header, _ := strings.Cut(token, " "); (header != "") != (host == "hub") {
			t.Errorf("the header sent to %s was %q", host, header)
		}
	}
	before := len(f.Asked())
	if _, err := fetch(t, c, "unet/model.onnx", dir); err != nil || len(f.Asked()) != before+1 {
		t.Errorf("a file that is whole was asked for again: %v, %v", f.Asked()[before:], err)
	}
}

// TestCutConnections: whatever the number of cuts, every byte is sent about once.
func TestCutConnections(t *testing.T) {
	want := content(1 << 20)
	f := newFake(t, map[string][]byte{"w": want}, "w")
	cuts := 0
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/blob/") || cuts >= 12 {
			return false
		}
		cuts++
		var from int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(want)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(want)-1, len(want)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(want[from : from+50_000])
		panic(http.ErrAbortHandler)
	}
	dir := t.TempDir()
	got, err := fetch(t, client(t, f, ""), "w", dir)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	resumed := 0
	for _, a := range f.Asked() {
		if strings.HasPrefix(a, "storage") && strings.Contains(a, "bytes=") {
			resumed++
		}
	}
	if resumed != 12 {
		t.Errorf("%d requests were resumed, want 12: %v", resumed, f.Asked())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestResumeAfterDeath goes on from what another process left, also where that is wrong.
func TestResumeAfterDeath(t *testing.T) {
	want := content(100_000)
	for name, left := range map[string][]byte{
		"half": want[:50_000], "all": want, "more": append(bytes.Clone(want), 1), "damaged": append([]byte{^want[0]}, want[1:60_000]...),
	} {
		f := newFake(t, map[string][]byte{"w": want}, "w")
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "w.part"), left, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := fetch(t, client(t, f, ""), "w", dir)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if name == "half" && !strings.Contains(fmt.Sprint(f.Asked()), "bytes=50000-") {
			t.Errorf("half: asked %v", f.Asked())
		}
	}
}

// TestServersThatIgnoreRanges send everything again, and that is noticed.
func TestServersThatIgnoreRanges(t *testing.T) {
	want := content(100_000)
	f := newFake(t, map[string][]byte{"w": want}, "w")
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "w.part"), want[:777], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t, client(t, f, ""), "w", dir); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestRefusals: each with a reason, and none with a file.
func TestRefusals(t *testing.T) {
	want := content(100_000)
	status := func(code int, name, value string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set(name, value)
			w.WriteHeader(code)
			return true
		}
	}
	storage := func(f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/blob/") && f(w, r)
		}
	}
	for name, c := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request) bool
		want  string
		is    error
		asked int // requests; 0 is any number
	}{
		"401": {status(401, "X-Error-Message", "Invalid credentials"), "set HF_TOKEN", ErrUnauthorised, 1},
		"403": {status(403, "X-Error-Code", "GatedRepo"), "terms have to be accepted", ErrUnauthorised, 1},
		"404": {status(404, "X-Error-Code", "EntryNotFound"), "no such file", ErrNotFound, 1},
		"429": {status(429, "Retry-After", "0"), "given up after 3 attempts", nil, 3},
		"500": {status(500, "X", "y"), "given up after 3 attempts", nil, 3},
		"418": {status(418, "X", "y"), "teapot", nil, 1},
		"lies": {storage(func(w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, len(want))))
			return true
		}), "its checksum is", nil, 0},
		"sends more":   {storage(func(w http.ResponseWriter, r *http.Request) bool { w.Write(append(want, want...)); return true }), "more than the 100000 bytes", nil, 0},
		"always short": {storage(func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(200); return true }), "ended after 0 of 100000", nil, 0},
		"wrong range": {storage(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Range", "bytes 5-9/100000")
			w.WriteHeader(206)
			return true
		}), "asked for bytes from 0", nil, 0},
		"signature ran out": {storage(status(403, "X", "y")), "given up after 3 attempts", nil, 0},
		"loop": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, "redirections", nil, 6},
		"no checksum":    {func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(200); return true }, "gives no checksum", nil, 1},
		"another commit": {status(200, "X-Repo-Commit", strings.Repeat("f", 40)), "does not keep to the revision", nil, 1},
		"file scheme": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				return false
			}
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
			return true
		}, "refused", nil, 0},
	} {
		f := newFake(t, map[string][]byte{"w": want}, "w")
		f.Fault = c.fault
		_, err := fetch(t, client(t, f, ""), "w", t.TempDir())
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) || strings.Contains(err.Error(), "signature=") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if c.asked > 0 && len(f.Asked()) != c.asked {
			t.Errorf("%s: asked %v", name, f.Asked())
		}
	}
}

// TestStallAndCancel: a server that falls silent is left, and a cancelled context ends a wait at once.
func TestStallAndCancel(t *testing.T) {
	want := content(100_000)
	f := newFake(t, map[string][]byte{"w": want}, "w")
	silent := make(chan struct{})
	var once sync.Once
	f.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/blob/") || strings.Contains(r.Header.Get("Range"), "bytes=1000-") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(want)))
		w.Write(want[:1000])
		w.(http.Flusher).Flush()
		once.Do(func() { close(silent) })
		<-r.Context().Done()
		return true
	}
	c, err := New(Config{Endpoint: f.URL(), Backoff: time.Millisecond, Stall: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := fetch(t, c, "w", t.TempDir()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	slow, err := New(Config{Endpoint: f.URL(), Stall: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	info, err := slow.Stat(t.Context(), "org/model", commit, "w")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = slow.Fetch(ctx, "org/model", commit, info, filepath.Join(t.TempDir(), "w"), func(done int64) {
		if done == 1000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNames(t *testing.T) {
	for repo, ok := range map[string]bool{
		"org/name": true, "name": true, "a.b/c_d-e": true, "../x": false, "org/../x": false, "a/b/c": false, "": false, "org/na me": false, "/x": false, "x?y": false,
	} {
		if err := CheckRepo(repo); (err == nil) != ok {
			t.Errorf("%q: %v", repo, err)
		}
	}
	for _, endpoint := range []string{"ftp://x", "x", "https://", "http://%zz"} {
		if _, err := New(Config{Endpoint: endpoint}); err == nil {
			t.Errorf("endpoint %q was taken", endpoint)
		}
	}
	if retryAfter("7") != 7*time.Second || retryAfter("-1") != 0 || retryAfter("99999999") != 10*time.Minute || retryAfter("x") != 0 {
		t.Error("Retry-After is not read")
	}
}
