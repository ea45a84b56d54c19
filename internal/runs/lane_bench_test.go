package runs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dreamood/dreamood/internal/bus"
)

// asked counts the requests to JetStream's API on a server.
func asked(t testing.TB, b *bus.Bus) *atomic.Int64 {
	t.Helper()
	var count atomic.Int64
	sub, err := b.Conn().Subscribe("$JS.API.>", func(*nats.Msg) { count.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Unsubscribe() })
	return &count
}

func benchMesh(b *testing.B, processes int) (*bus.Bus, []*Service) {
	b.Helper()
	server, err := bus.Open(b.Context(), bus.Config{Dir: b.TempDir(), NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	var list []*Service
	for range processes {
		s, err := New(b.Context(), Config{Kinds: []string{"dream"}, MaxPending: 1 << 20}, Deps{JS: server.JetStream()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.Close)
		list = append(list, s)
	}
	return server, list
}

// fill publishes n messages, spread evenly over the lanes of so many owners, without runs behind them.
func fill(b *testing.B, s *Service, owners, n int) *queue {
	b.Helper()
	q, err := s.queue(b.Context(), "dream")
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		run := Run{ID: newID(time.Now()), Kind: "dream", Owner: fmt.Sprint(i % owners)}
		if err := q.publish(b.Context(), &run, 0, "0"); err != nil {
			b.Fatal(err)
		}
		if i < owners {
			if err := q.makeLane(b.Context(), run.lane(), run.Owner); err != nil {
				b.Fatal(err)
			}
		}
	}
	return q
}

// BenchmarkTake takes and acknowledges shards out of so many lanes: the time and the requests for one.
func BenchmarkTake(b *testing.B) {
	for _, owners := range []int{1, 50, 200} {
		b.Run(fmt.Sprintf("lanes=%d", owners), func(b *testing.B) {
			server, list := benchMesh(b, 1)
			q := fill(b, list[0], owners, max(b.N, owners))
			board := newBoard(q)
			count := asked(b, server)
			b.ResetTimer()
			for range b.N {
				c, err := board.take(b.Context())
				if err != nil || c == nil {
					b.Fatalf("%v, %v", c, err)
				}
				if err := c.DoubleAck(b.Context()); err != nil {
					b.Fatal(err)
				}
				board.done(c)
			}
			b.StopTimer()
			b.ReportMetric(float64(count.Load())/float64(b.N), "requests/op")
		})
	}
}

// BenchmarkLook reads the board of so many lanes, all with shards.
func BenchmarkLook(b *testing.B) {
	for _, owners := range []int{1, 50, 200} {
		b.Run(fmt.Sprintf("lanes=%d", owners), func(b *testing.B) {
			_, list := benchMesh(b, 1)
			board := newBoard(fill(b, list[0], owners, owners))
			for b.Loop() {
				board.read = time.Time{}
				if err := board.look(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTend is one pass of the reconciler over so many lanes, with 10,000 shards in them.
func BenchmarkTend(b *testing.B) {
	for _, owners := range []int{1, 50, 200} {
		b.Run(fmt.Sprintf("lanes=%d", owners), func(b *testing.B) {
			_, list := benchMesh(b, 1)
			q := fill(b, list[0], owners, 10_000)
			for b.Loop() {
				if err := q.tend(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWorkers has 200 workers in 4 processes, idle, and busy with shards of 200 ms of 1 and 50 owners: requests to
// JetStream's API per second, in all. Acknowledgements, events and documents are in it, too.
func BenchmarkWorkers(b *testing.B) {
	const processes, slots, long = 4, 50, 4 * time.Second
	for _, owners := range []int{0, 1, 50} {
		b.Run(fmt.Sprintf("owners=%d", owners), func(b *testing.B) {
			for range b.N {
				server, list := benchMesh(b, processes)
				for i := range owners * 6000 / max(owners, 1) / 100 {
					if _, _, err := list[0].Submit(b.Context(), Spec{Kind: "dream", Owner: fmt.Sprint(i % owners), Shards: 100}); err != nil {
						b.Fatal(err)
					}
				}
				var done atomic.Int64
				ctx, cancel := context.WithCancel(b.Context())
				var group sync.WaitGroup
				for _, s := range list {
					group.Go(func() {
						err := s.Serve(ctx, Worker{Kind: "dream", Concurrency: slots, Work: func(ctx context.Context, _ *Task) ([]byte, error) {
							sleep(ctx, 200*time.Millisecond)
							done.Add(1)
							return nil, ctx.Err()
						}})
						if err != nil {
							b.Error(err)
						}
					})
				}
				time.Sleep(time.Second)
				count := asked(b, server)
				before := done.Load()
				time.Sleep(long)
				b.ReportMetric(float64(count.Load())/long.Seconds(), "requests/s")
				b.ReportMetric(float64(done.Load()-before)/long.Seconds(), "shards/s")
				cancel()
				group.Wait()
			}
		})
	}
}

// TestIdleWorkersAskLittle lets 40 workers of 4 processes idle: each process looks at the empty queue every 5 polls,
// whatever the number of its workers.
func TestIdleWorkersAskLittle(t *testing.T) {
	t.Parallel()
	b := openBus(t, t.TempDir())
	s := newService(t, b, fast)
	submit(t, s, Spec{})
	workOff(t, s, 1) // a lane, now empty
	for range 4 {
		serve(t, newService(t, b, fast), Worker{Kind: "dream", Concurrency: 10, Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	}
	time.Sleep(200 * time.Millisecond) // the first looks
	count := asked(t, b)
	const looks = 4
	time.Sleep(looks * idlePolls * fast.Poll)
	if got := count.Load(); got > 4*(looks+2) {
		t.Errorf("4 processes asked %d times in the time of %d looks each", got, looks)
	}
}
