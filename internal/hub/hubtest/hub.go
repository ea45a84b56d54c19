// Package hubtest serves a model repository as the Hugging Face Hub does, for tests.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Commit is that of the repository org/model at every revision.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Hub is a hub with a storage host of its own, as the real one has, and the faults that a test wants.
type Hub struct {
	hub, storage *httptest.Server
	Files        map[string][]byte
	large        map[string]bool                                          // stored as LFS: on the storage host, named by their sha256
	Fault        func(w http.ResponseWriter, r *http.Request) (done bool) // on either host, before the answer

	mu     sync.Mutex
	asked  []string // METHOD path range
	tokens []string // host's Authorization headers
}

// New serves files, the large ones from a storage host.
func New(t testing.TB, files map[string][]byte, large ...string) *Hub {
	f := &Hub{Files: files, large: map[string]bool{}}
	for _, name := range large {
		f.large[name] = true
	}
	f.storage = httptest.NewServer(f.logged("storage", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.Files[strings.TrimPrefix(r.URL.Path, "/blob/")]))
	}))
	f.hub = httptest.NewServer(f.logged("hub", f.answer))
	t.Cleanup(func() { f.hub.Close(); f.storage.Close() })
	return f
}

func (f *Hub) logged(host string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, strings.TrimSpace(host+" "+r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		f.tokens = append(f.tokens, host+" "+r.Header.Get("Authorization"))
		fault := f.Fault
		f.mu.Unlock()
		if fault != nil && fault(w, r) {
			return
		}
		h(w, r)
	}
}

func (f *Hub) answer(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/models/org/model/revision/") {
		fmt.Fprintf(w, `{"id": "org/model", "sha": %q, "siblings": [`, Commit)
		first := true
		for name := range f.Files {
			if !first {
				fmt.Fprint(w, ",")
			}
			first = false
			fmt.Fprintf(w, `{"rfilename": %q}`, name)
		}
		fmt.Fprint(w, "]}")
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/org/model/resolve/"+Commit+"/")
	content, there := f.Files[name]
	if !ok || !there {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		http.Error(w, "no", http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", Commit)
	if f.large[name] {
		w.Header().Set("X-Linked-Etag", `"`+sha(content)+`"`)
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(content)))
		w.Header().Set("Location", f.storage.URL+"/blob/"+name+"?signature=secret")
		w.WriteHeader(http.StatusFound)
		return
	}
	w.Header().Set("ETag", `"`+gitSum(content)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func gitSum(b []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(sum[:])
}

// URL is the endpoint.
func (f *Hub) URL() string { return f.hub.URL }

// Asked are the requests so far: host, method, path, range.
func (f *Hub) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// Tokens are the hosts and the Authorization headers of the requests so far.
func (f *Hub) Tokens() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tokens)
}
