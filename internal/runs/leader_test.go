package runs

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// TestTheLeaderKnows compares what the leader says with what was written, deleted and never there.
func TestTheLeaderKnows(t *testing.T) {
	t.Parallel()
	s := newService(t, openBus(t, t.TempDir()), fast)
	run := submit(t, s, Spec{Kind: "dream"})
	entry, err := s.docs.Get(t.Context(), runKey(run.ID))
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Replicas = 3 // asks the leader, as in a cluster
	value, revision, err := s.read(t.Context(), runKey(run.ID))
	if err != nil || string(value) != string(entry.Value()) || revision != entry.Revision() {
		t.Errorf("revision %d of %d bytes, %v; want revision %d of %d", revision, len(value), err, entry.Revision(), len(entry.Value()))
	}
	if _, _, err := s.read(t.Context(), runKey(newID(s.now()))); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("a key that never was: %v", err)
	}
	for name, remove := range map[string]func(string) error{
		"deleted": func(key string) error { return s.docs.Delete(t.Context(), key) },
		"purged":  func(key string) error { return s.docs.Purge(t.Context(), key) },
	} {
		if _, err := s.docs.Put(t.Context(), name, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := remove(name); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.read(t.Context(), name); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("a key that was %s: %v", name, err)
		}
	}
}
