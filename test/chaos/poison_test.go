package chaos

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// TestPoison lets a shard kill every process that takes it, between runs that have nothing to do with it. Its run fails
// after the last attempt and leaves a dead letter, by which it is tried again when what killed it is mended. All the time
// an autoscaler reads what there is to do.
func TestPoison(t *testing.T) {
	t.Parallel()
	cfg := quick
	cfg.MaxAttempts = 3
	w := newWorld(t, cfg)
	w.part.Slots = 1 // what dies with a process besides loses an attempt, too
	w.part.Script = []play{
		{Name: "before", Shards: 2, End: runs.Succeeded}, {Name: "poison", Shards: 2, Fate: "die", End: runs.Failed},
		{Name: "behind", Shards: 3, End: runs.Succeeded},
	}
	client := w.start("client")
	w.eventually("all is accepted", func(context.Context) error {
		if w.id("behind") == "" {
			return fmt.Errorf("only %v", w.ids)
		}
		return nil
	})
	w.lagIs("before any worker", 7)
	for death := range cfg.MaxAttempts {
		worker := w.start("worker")
		if err := worker.awaitEnd(t); err == nil {
			t.Fatal("the poison did not kill the worker")
		}
		w.lagIs(fmt.Sprintf("after %d deaths", death+1), w.open())
	}
	time.Sleep(2 * cfg.AckWait) // the lease of the dead one runs out, and nobody is there
	w.lagIs("without a worker", w.open())
	worker := w.start("worker") // finds no attempt left
	w.finish(client)
	w.stopWell(worker) // nobody looks at the redriven run before the lag is read
	w.passes(w.part.Script)
	w.lagIs("with a dead letter", 0)
	run, err := w.runs.Get(t.Context(), w.id("poison"))
	if err != nil || run.Failure == nil || !strings.Contains(run.Failure.Message, "attempt 3 of 3 never came back") {
		t.Errorf("%+v, %v", run.Failure, err)
	}
	w.redrive(run)
}

// redrive takes care of the only dead letter, as an operator does, through the API.
func (w *world) redrive(run runs.Run) {
	w.t.Helper()
	ctx, api := w.t.Context(), runs.Server{Runs: w.runs}
	list, err := api.ListDeadLetters(ctx, &runv1.ListDeadLettersRequest{})
	if err != nil || len(list.DeadLetters) != 1 {
		w.t.Fatalf("dead letters: %v, %v", list, err)
	}
	shown, err := api.GetDeadLetter(ctx, &runv1.GetDeadLetterRequest{Name: list.DeadLetters[0].Name})
	if err != nil {
		w.t.Fatal(err)
	}
	letter := shown.DeadLetter
	if letter.Run != ood.Runs.Name(run.ID) || letter.Kind != kind || letter.Shard != 0 || letter.Attempts != 3 || letter.Worker == "" ||
		letter.Owner != "ann" || letter.RedrivenBy != "" || letter.Failure.GetMessage() != run.Failure.Message {
		w.t.Errorf("dead letter %v of %+v", letter, run)
	}
	redriven, err := api.RedriveDeadLetter(ctx, &runv1.RedriveDeadLetterRequest{Name: letter.Name})
	if err != nil {
		w.t.Fatal(err)
	}
	again, err := api.RedriveDeadLetter(ctx, &runv1.RedriveDeadLetterRequest{Name: letter.Name})
	if err != nil || again.Run.Name != redriven.Run.Name {
		w.t.Errorf("redriven twice: %v, then %v, %v", redriven.Run, again.GetRun(), err)
	}
	id := strings.TrimPrefix(redriven.Run.Name, ood.Runs.Name(""))
	w.accept("mended", id)
	w.lagIs("when it is redriven", int64(2-run.ShardsDone))
	w.start("worker")
	if err := w.runs.Watch(ctx, id, 0, func(runs.Event) error { return nil }); err != nil {
		w.t.Fatal(err)
	}
	plays := append(w.part.Script, play{Name: "mended", Shards: 2, Retry: "poison", End: runs.Succeeded})
	w.passes(plays)
	w.lagIs("at the end", 0)
	if shown, err = api.GetDeadLetter(ctx, &runv1.GetDeadLetterRequest{Name: letter.Name}); err != nil || shown.DeadLetter.RedrivenBy != redriven.Run.Name {
		w.t.Errorf("the dead letter afterwards: %v, %v", shown, err)
	}
}

// open is how many shards are to be done, by the documents.
func (w *world) open() (shards int64) {
	w.t.Helper()
	list, _, err := w.runs.List(w.t.Context(), runs.Filter{}, 0, "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, run := range list {
		if !run.State.Terminal() {
			shards += int64(run.ShardCount - run.ShardsDone)
		}
	}
	return shards
}

// lagIs holds both figures that an autoscaler may read to what there is to do: what dreamood exports, and the messages
// of the stream, as NATS shows them. No worker may be at work.
func (w *world) lagIs(when string, want int64) {
	w.t.Helper()
	var exported int64
	list, err := w.runs.Backlog(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range list {
		exported += b.Waiting + b.InFlight
	}
	stream, err := w.bus.JetStream().Stream(w.t.Context(), w.part.Runs.Name+"-queue-"+kind)
	if err != nil {
		w.t.Fatal(err)
	}
	if held := int64(stream.CachedInfo().State.Msgs); exported != want || held != want {
		w.t.Errorf("%s, an autoscaler reads %d from dreamood and %d from NATS, want %d", when, exported, held, want)
	}
}
