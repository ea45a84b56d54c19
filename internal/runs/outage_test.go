package runs

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/bus"
)

// TestServerAwayDuringWork takes the server away while a shard is worked on, and brings it back before the commit is
// given up.
func TestServerAwayDuringWork(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	start := func() *bus.Bus {
		b, err := bus.Open(t.Context(), bus.Config{Dir: dir, Listen: address, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	server := start()
	remote, err := bus.Open(t.Context(), bus.Config{URL: "nats://" + address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	cfg := fast
	cfg.AckWait, cfg.CommitWait = 10*time.Second, 10*time.Second
	s := newService(t, remote, cfg)
	working, away := make(chan struct{}), make(chan struct{})
	serve(t, s, Worker{Kind: "dream", Work: func(_ context.Context, task *Task) ([]byte, error) {
		close(working)
		<-away
		task.Report(1, 1, "nobody hears this yet")
		return []byte("kept"), nil
	}})
	run := submit(t, s, Spec{})
	<-working
	server.Close()
	close(away)
	time.Sleep(200 * time.Millisecond) // the commit runs into the void
	start()
	done, _ := await(t, s, run.ID)
	wantState(t, done, Succeeded)
	if shard := done.Shards[0]; string(shard.Result) != "kept" || shard.Attempt != 1 || done.Progress.Done != 1 {
		t.Errorf("%+v, progress %+v", shard, done.Progress)
	}
	wantEmptyQueue(t, s)
}
