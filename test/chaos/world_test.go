package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// patience is how long a test waits for what must happen. It is no measure of anything.
const patience = 60 * time.Second

// quick is the run system with its waits shortened; the protocol is the same.
var quick = runs.Config{
	Name: "chaos", Kinds: []string{kind}, AckWait: 1500 * time.Millisecond, Heartbeat: 300 * time.Millisecond, MaxAttempts: 12,
	Backoff: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond, CommitWait: 10 * time.Second, Poll: 100 * time.Millisecond,
	ReportEvery: 50 * time.Millisecond, ReconcileEvery: 250 * time.Millisecond, ResourceBackoff: 200 * time.Millisecond,
}

// hit says that a process stands at a point.
type hit struct {
	who   *process
	point string
}

// world is a NATS server and the processes around it.
type world struct {
	t     testing.TB
	dir   string
	began time.Time
	part  part // of every process that is started

	nats    *process
	bus     *bus.Bus
	runs    *runs.Service // the test's own, without a reconciler: it looks
	blobs   *artifact.Files
	hits    chan hit
	lines   chan string // "working …" and "finishing …", the newest few
	mu      sync.Mutex
	ids     map[string]string // of the runs that were accepted, by name
	problem []string
	told    func(p *process, words []string) // samples and counts of a soak
}

// newWorld is a world with an audit.
func newWorld(t testing.TB, cfg runs.Config) *world {
	t.Helper()
	w := bareWorld(t, cfg)
	w.startNATS()
	w.look()
	w.audit()
	return w
}

// bareWorld is a world without a server.
func bareWorld(t testing.TB, cfg runs.Config) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, dir: dir, began: time.Now(), hits: make(chan hit, 64), lines: make(chan string, 1024), ids: map[string]string{},
		part: part{Blobs: filepath.Join(dir, "blobs"), Runs: cfg, Script: script, Slots: 2, URL: "nats://" + freeAddress(t)},
	}
	var err error
	if w.blobs, err = artifact.NewFiles(w.part.Blobs); err != nil {
		t.Fatal(err)
	}
	return w
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startNATS starts the server on its folder, as operators are told to: every acknowledged write is synced.
func (w *world) startNATS() {
	w.t.Helper()
	config := filepath.Join(w.dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, sync_interval: always }\n",
		strings.TrimPrefix(w.part.URL, "nats://"), filepath.Join(w.dir, "nats"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.nats = launch(w.t, w.dir, "nats", part{Sample: w.part.Sample}, w.hear, "-c", config)
}

// look connects the test itself.
func (w *world) look() {
	w.t.Helper()
	var err error
	if w.bus, err = bus.Open(w.t.Context(), bus.Config{URL: w.part.URL, Name: "test", ConnectWait: time.Minute}); err != nil {
		w.t.Fatalf("%v; its log:\n%s", err, tail(w.nats.log))
	}
	w.t.Cleanup(w.bus.Close)
	if w.runs, err = runs.New(w.t.Context(), w.part.Runs, runs.Deps{JS: w.bus.JetStream()}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.runs.Close)
}

// audit keeps every revision of every run, for the questions at the end: the bucket has only the newest.
func (w *world) audit() {
	w.t.Helper()
	_, err := w.bus.JetStream().CreateStream(w.t.Context(), jetstream.StreamConfig{
		Name: "audit", Mirror: &jetstream.StreamSource{Name: "KV_" + w.part.Runs.Name + "-runs"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	docs, err := w.bus.JetStream().KeyValue(w.t.Context(), w.part.Runs.Name+"-runs")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := docs.PutString(w.t.Context(), "probe", "is the mirror there?"); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the mirror follows", w.audited)
}

// audited says whether the audit has every revision that was written.
func (w *world) audited(ctx context.Context) error {
	origin, err := w.bus.JetStream().Stream(ctx, "KV_"+w.part.Runs.Name+"-runs")
	if err != nil {
		return err
	}
	audit, err := w.bus.JetStream().Stream(ctx, "audit")
	if err != nil {
		return err
	}
	if at, of := audit.CachedInfo().State.LastSeq, origin.CachedInfo().State.LastSeq; at < of {
		return fmt.Errorf("at %d of %d", at, of)
	}
	return nil
}

// start starts a worker or a client, which stands still at points, one after the other.
func (w *world) start(role string, points ...string) *process {
	w.t.Helper()
	p := w.part
	p.Stand = points
	w.mu.Lock()
	p.Known = maps.Clone(w.ids)
	w.mu.Unlock()
	return launch(w.t, w.dir, role, p, w.hear)
}

func (w *world) hear(p *process, line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "at":
		w.hits <- hit{p, words[1]}
	case "accepted":
		w.mu.Lock()
		defer w.mu.Unlock()
		if known := w.ids[words[1]]; known != "" && known != words[2] {
			w.problem = append(w.problem, fmt.Sprintf("%s was accepted twice: as %s and as %s", words[1], known, words[2]))
		}
		w.ids[words[1]] = words[2]
	case "sample", "count":
		if w.told != nil {
			w.told(p, words)
		}
	case "working", "finishing", "planning":
		select {
		case w.lines <- line:
		default: // nobody waits for one
		}
	}
}

// id of an accepted run; "" when it is not accepted yet.
func (w *world) id(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ids[name]
}

// awaitHit waits until a process stands at a point.
func (w *world) awaitHit(point string) *process {
	w.t.Helper()
	select {
	case h := <-w.hits:
		if h.point != point {
			w.t.Fatalf("%s stands at %s, want %s", h.who.name, h.point, point)
		}
		return h.who
	case <-time.After(patience):
		w.t.Fatalf("nobody came to the point %s within %s", point, patience)
		return nil
	}
}

// awaitLine waits until a worker says so.
func (w *world) awaitLine(prefix string) {
	w.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case line := <-w.lines:
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-timeout:
			w.t.Fatalf("nobody said %q within %s", prefix, patience)
		}
	}
}

// eventually waits until f is satisfied.
func (w *world) eventually(what string, f func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if wait(ctx, 25*time.Millisecond) != nil {
			w.t.Fatalf("%s: not within %s: %v\n%s", what, patience, err, w.state())
		}
	}
}

// finish waits until the client has seen every run end. A client that was killed must have been started again.
func (w *world) finish(client *process) {
	w.t.Helper()
	if err := client.awaitEnd(w.t); err != nil {
		w.t.Fatalf("the client: %v\n%s", err, tail(client.log))
	}
}

// stopWell ends a process with SIGTERM.
func (w *world) stopWell(p *process) {
	w.t.Helper()
	p.signal(w.t, syscall.SIGTERM)
	if err := p.awaitEnd(w.t); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.t.Errorf("%s, told to stop: %v\n%s", p.name, err, tail(p.log))
	}
}

// state describes what has not ended, for the log of a failed test.
func (w *world) state() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var b strings.Builder
	list, _, err := w.runs.List(ctx, runs.Filter{}, 0, "")
	if err != nil {
		return err.Error()
	}
	for _, run := range list {
		if !run.State.Terminal() {
			fmt.Fprintf(&b, "%s %s %s updated %s: %+v, final %+v\n", run.ID, run.Target, run.State, run.Updated, run.Shards, run.Final)
		}
	}
	streams := w.bus.JetStream().ListStreams(ctx)
	for info := range streams.Info() {
		fmt.Fprintf(&b, "stream %s: %d messages\n", info.Config.Name, info.State.Msgs)
		if !strings.Contains(info.Config.Name, "-queue-") {
			continue
		}
		stream, err := w.bus.JetStream().Stream(ctx, info.Config.Name)
		if err != nil {
			return b.String() + err.Error()
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			fmt.Fprintf(&b, "  consumer %s: pending %d, to be acknowledged %d, redelivered %d, pulls waiting %d, delivered %+v, floor %+v\n",
				c.Name, c.NumPending, c.NumAckPending, c.NumRedelivered, c.NumWaiting, c.Delivered, c.AckFloor)
		}
	}
	return b.String()
}
