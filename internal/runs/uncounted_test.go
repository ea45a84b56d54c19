package runs

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestUncountedMessage has workers find the last shard of a lane of which the server counts too few.
func TestUncountedMessage(t *testing.T) {
	t.Parallel()
	s := mesh(t, fast)
	q, err := s.queue(t.Context(), "dream")
	if err != nil {
		t.Fatal(err)
	}
	run := submit(t, s, Spec{Shards: 4})
	for until := time.Now().Add(20 * time.Second); !miscount(t, q, run); {
		if time.Now().After(until) {
			t.Fatal("the server counts right, whatever is done: if it always does, queue.adopt has nobody to call")
		}
	}
	serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	s.Start()
	ended, _ := await(t, s, run.ID)
	wantState(t, ended, Succeeded)
}

// miscount deletes the messages of a run while its lane is looked at, publishes them again, and says whether the server
// stays with a number that is too low.
func miscount(t *testing.T, q *queue, run Run) bool {
	ctx, stop := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for ctx.Err() == nil {
				_, _ = q.lanes(ctx)
			}
		})
	}
	err := q.purge(t.Context(), &run, nil)
	stop()
	looking.Wait()
	if err == nil {
		err = q.s.publishAll(t.Context(), run, newID(time.Now()))
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // what was just published is counted a moment later
		list, err := q.lanes(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%d lanes, %v", len(list), err)
		}
		if list[0].NumPending >= uint64(run.ShardCount) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}
