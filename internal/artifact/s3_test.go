package artifact_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bucket"
	"github.com/dreamood/dreamood/internal/bucket/buckettest"
)

func newObjects(t *testing.T) (*artifact.Objects, *bucket.Bucket, *buckettest.Server) {
	t.Helper()
	server := buckettest.Start(t)
	b, err := bucket.Open(t.Context(), server.URL("mesh"), bucket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return artifact.NewObjects(b, t.TempDir()), b, server
}

func TestObjectsConform(t *testing.T) {
	store, _, _ := newObjects(t)
	conform(t, store)
}

func objectOf(ref artifact.Ref) string { return "blobs/sha256/" + ref.Hex()[:2] + "/" + ref.Hex() }

func TestObjectsCorruption(t *testing.T) {
	store, b, _ := newObjects(t)
	for name, content := range map[string]string{"flipped": "drEam", "short": "dre", "long": "dreams", "empty": ""} {
		ref := put(t, store, "dream")
		if err := b.Put(t.Context(), objectOf(ref), strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		if _, err := artifact.ReadAll(t.Context(), store, ref, 100); !errors.Is(err, artifact.ErrCorrupt) || !strings.Contains(err.Error(), ref.Hex()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestObjectsSweep has every kind of blob, with a grace of nothing in place of old ones.
func TestObjectsSweep(t *testing.T) {
	store, b, _ := newObjects(t)
	live, dead, recalled := put(t, store, "live"), put(t, store, "dead"), put(t, store, "recalled")
	if err := b.Put(t.Context(), "blobs/sha256/no/blob", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	sweep := func(s artifact.Sweep) artifact.Swept {
		t.Helper()
		swept, err := store.Sweep(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return swept
	}
	isLive := func(r artifact.Ref) bool { return r == live }
	if got := sweep(artifact.Sweep{Live: isLive, Grace: time.Hour}); got.Live.Blobs != 1 || got.Young.Blobs != 2 || got.Trashed.Blobs != 0 || got.Strange.Blobs != 1 {
		t.Errorf("young ones: %+v", got)
	}
	if got := sweep(artifact.Sweep{Live: isLive, DryRun: true}); got.Trashed.Blobs != 2 {
		t.Errorf("a rehearsal: %+v", got)
	}
	if got := sweep(artifact.Sweep{Live: isLive}); got.Live.Blobs != 1 || got.Trashed.Blobs != 2 || got.Trashed.Bytes != int64(len("dead")+len("recalled")) {
		t.Errorf("%+v", got)
	}
	if _, err := b.Stat(t.Context(), objectOf(dead)); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("a trashed blob is in its place: %v", err)
	}
	if back, err := artifact.ReadAll(t.Context(), store, recalled, 100); err != nil || string(back) != "recalled" {
		t.Errorf("out of the trash: %q, %v", back, err)
	}
	if got := sweep(artifact.Sweep{Live: func(r artifact.Ref) bool { return r != recalled }, Grace: time.Hour}); got.Live.Blobs != 2 || got.Recalled.Blobs != 1 || got.Young.Blobs != 1 {
		t.Errorf("a blob that is named again: %+v", got)
	}
	if got := sweep(artifact.Sweep{Live: isLive}); got.Trashed.Blobs != 2 {
		t.Errorf("trashed again: %+v", got)
	}
	if got := sweep(artifact.Sweep{Live: isLive}); got.Removed.Blobs != 2 {
		t.Errorf("removed for good: %+v", got)
	}
	if _, err := store.Stat(t.Context(), dead); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a removed blob: %v", err)
	}
	if ref := put(t, store, "dead"); ref != dead {
		t.Error(ref)
	}
	if back, err := artifact.ReadAll(t.Context(), store, dead, 100); err != nil || string(back) != "dead" {
		t.Errorf("put again: %q, %v", back, err)
	}
}

// TestObjectsBreakInTheMiddle has the server fail while the second of three parts is sent: nothing is seen of the blob,
// and putting it again stores it.
func TestObjectsBreakInTheMiddle(t *testing.T) {
	store, b, server := newObjects(t)
	if !server.InProcess() {
		t.Skip("another server cannot be told to fail")
	}
	data := bytes.Repeat([]byte("fragment of a dream "), 2_000_000) // 40 MB
	server.Refuse(func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "2"
	})
	if _, err := artifact.PutBytes(t.Context(), store, data); err == nil {
		t.Fatal("it was stored without its second part")
	}
	if _, err := b.Stat(t.Context(), objectOf(artifact.RefOf(data))); !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("half a blob is seen: %v", err)
	}
	server.Refuse(nil)
	ref, err := artifact.PutBytes(t.Context(), store, data)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := artifact.ReadAll(t.Context(), store, ref, 1<<30); err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes, %v", len(back), err)
	}
}
