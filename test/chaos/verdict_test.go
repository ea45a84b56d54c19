package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/internal/runs"
)

// verdict is what a world came to.
type verdict struct {
	Lost, Double, Wrong []string // accepted and gone; committed, ended or submitted twice; anything else
	Revisions, Seen     uint64   // of documents: written, and looked at by the audit
}

func (v *verdict) problems() []string { return slices.Concat(v.Lost, v.Double, v.Wrong) }

// judge asks every question, when all runs have ended.
func (w *world) judge(plays []play) verdict {
	w.t.Helper()
	var v verdict
	w.mu.Lock()
	v.Double = append(v.Double, w.problem...)
	w.mu.Unlock()
	w.eventually("every run ends", func(ctx context.Context) error { return w.allEnded(ctx, plays) })
	w.eventually("no message is left", w.noMessages)
	for _, p := range plays {
		if !p.Delete {
			w.judgeRun(p, &v)
		}
	}
	w.judgeLetters(plays, &v)
	w.judgeBucket(plays, &v)
	w.judgeHistory(&v)
	return v
}

func (w *world) allEnded(ctx context.Context, plays []play) error {
	for _, p := range plays {
		run, err := w.runs.Get(ctx, w.id(p.Name))
		if err != nil && !errors.Is(err, runs.ErrNotFound) { // lost: judgeRun says so
			return err
		}
		if err == nil && p.Delete {
			return fmt.Errorf("%s is still there", p.Name)
		}
		if err == nil && !run.State.Terminal() {
			return fmt.Errorf("%s is %s: %+v", p.Name, run.State, run.Shards)
		}
	}
	return nil
}

// noMessages looks into every queue.
func (w *world) noMessages(ctx context.Context) error {
	lister := w.bus.JetStream().ListStreams(ctx)
	for info := range lister.Info() {
		if strings.HasPrefix(info.Config.Name, w.part.Runs.Name+"-queue-") && info.State.Msgs > 0 {
			return fmt.Errorf("%d messages in %s", info.State.Msgs, info.Config.Name)
		}
	}
	return lister.Err()
}

// judgeRun compares a run with what it would be had nothing happened.
func (w *world) judgeRun(p play, v *verdict) {
	ctx := w.t.Context()
	run, err := w.runs.Get(ctx, w.id(p.Name))
	if err != nil {
		v.Lost = append(v.Lost, fmt.Sprintf("%s: %v", p.Name, err))
		return
	}
	wrong := func(format string, args ...any) {
		v.Wrong = append(v.Wrong, fmt.Sprintf("%s (%s, %+v): ", p.Name, run.State, run.Failure)+fmt.Sprintf(format, args...))
	}
	if run.State != p.End {
		wrong("want %s", p.End)
	}
	if (run.Failure != nil) != (p.End == runs.Failed) {
		wrong("its failure is that of another end")
	}
	if p.End == runs.Succeeded {
		if run.Result != p.want() {
			wrong("result %q, want %q", run.Result, p.want())
		}
		if run.ShardsDone != p.Shards || run.Progress.Done != int64(p.Shards)*numbers {
			wrong("%d of %d shards, progress %+v", run.ShardsDone, p.Shards, run.Progress)
		}
	}
	for i, shard := range run.Shards {
		if !shard.Done {
			continue
		}
		if sum, err := check(ctx, w.blobs, shard.Result); err != nil || sum != add(blob(p.origin(), i)) {
			wrong("shard %d: sum %x, want %x, %v", i, sum, add(blob(p.origin(), i)), err)
		}
	}
	ends := 0
	err = w.runs.Watch(ctx, run.ID, 0, func(runs.Event) error { return nil }) // repairs, as any watcher does
	if err == nil {
		ends, err = w.terminalEvents(ctx, run.ID)
	}
	switch {
	case err != nil:
		wrong("events: %v", err)
	case ends == 0:
		v.Lost = append(v.Lost, p.Name+": no terminal event")
	case ends > 1:
		v.Double = append(v.Double, fmt.Sprintf("%s: %d terminal events", p.Name, ends))
	}
}

// terminalEvents counts the ends that were told. One that is told again, because an older event came after it or it was
// lost, is of the same revision: watchers see it once.
func (w *world) terminalEvents(ctx context.Context, id string) (ends int, err error) {
	told := map[uint64]bool{}
	err = w.each(ctx, w.part.Runs.Name+"-events", w.part.Runs.Name+".event."+id, func(m jetstream.Msg) error {
		var event struct {
			Run      runs.Run
			Revision uint64
		}
		if err := json.Unmarshal(m.Data(), &event); err != nil {
			return err
		}
		if event.Run.State.Terminal() {
			told[event.Revision] = true
		}
		return nil
	})
	return len(told), err
}

// each reads a stream as it is now.
func (w *world) each(ctx context.Context, stream, subject string, f func(jetstream.Msg) error) error {
	consumer, err := w.bus.JetStream().OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	for range info.NumPending {
		m, err := consumer.Next()
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

// judgeLetters looks for one dead letter of every run that a shard has failed, and for none of any other. They are
// written before the last message goes, so all are there; in a cluster the copy that answers may lag a moment behind.
func (w *world) judgeLetters(plays []play, v *verdict) {
	read := func() (found map[string][]runs.DeadLetter, all bool) {
		list, _, err := w.runs.DeadLetters(w.t.Context(), runs.Filter{}, "", 1000, "")
		if err != nil {
			w.t.Fatal(err)
		}
		found, all = map[string][]runs.DeadLetter{}, true
		for _, letter := range list {
			found[letter.Run] = append(found[letter.Run], letter)
		}
		for _, p := range plays {
			all = all && len(found[w.id(p.Name)]) >= p.letters()
		}
		return found, all
	}
	found, all := read()
	for deadline := time.Now().Add(5 * time.Second); !all && time.Now().Before(deadline); found, all = read() {
		time.Sleep(50 * time.Millisecond)
	}
	retries := map[string]string{}
	for _, p := range plays {
		if p.Retry != "" {
			retries[p.Retry] = w.id(p.Name)
		}
	}
	for _, p := range plays {
		letters := found[w.id(p.Name)]
		delete(found, w.id(p.Name))
		switch {
		case len(letters) < p.letters():
			v.Lost = append(v.Lost, p.Name+": no dead letter")
		case len(letters) > p.letters():
			v.Double = append(v.Double, fmt.Sprintf("%s: %d dead letters, want %d", p.Name, len(letters), p.letters()))
		case len(letters) == 1 && letters[0].RedrivenBy != retries[p.Name]:
			v.Wrong = append(v.Wrong, fmt.Sprintf("%s: its dead letter says that %q is its retry, want %q", p.Name, letters[0].RedrivenBy, retries[p.Name]))
		}
	}
	for run, letters := range found {
		v.Double = append(v.Double, fmt.Sprintf("%d dead letters of %q, which nobody submitted", len(letters), run))
	}
}

// judgeBucket looks for runs that nobody submitted and for reservations of none.
func (w *world) judgeBucket(plays []play, v *verdict) {
	ctx := w.t.Context()
	docs, err := w.bus.JetStream().KeyValue(ctx, w.part.Runs.Name+"-runs")
	if err != nil {
		w.t.Fatal(err)
	}
	keys, err := docs.Keys(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	known := map[string]bool{}
	for _, p := range plays {
		known["run."+w.id(p.Name)] = !p.Delete
	}
	for _, key := range keys {
		switch {
		case strings.HasPrefix(key, "run.") && !known[key]:
			v.Double = append(v.Double, key+" was submitted by nobody")
		case strings.HasPrefix(key, "request."):
			var reservation struct{ Run string }
			data, err := w.fromLeader("KV_"+docs.Bucket(), "$KV."+docs.Bucket()+"."+key)
			if err == nil {
				err = json.Unmarshal(data, &reservation)
			}
			if err != nil || !known["run."+reservation.Run] {
				v.Wrong = append(v.Wrong, fmt.Sprintf("%s is reserved for %q, which is not there; %v", key, reservation.Run, err))
			}
		}
	}
}

// fromLeader reads the last message of a subject from the leader of its stream: other copies may lag behind.
func (w *world) fromLeader(stream, subject string) ([]byte, error) {
	msg, err := w.bus.Conn().Request("$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"last_by_subj": %q}`, subject), 5*time.Second)
	if err != nil {
		return nil, err
	}
	var answer struct{ Message struct{ Data []byte } }
	err = json.Unmarshal(msg.Data, &answer)
	return answer.Message.Data, err
}

// judgeHistory goes through every revision of every run: what is done stays done, and what has ended stays as it was.
func (w *world) judgeHistory(v *verdict) {
	ctx := w.t.Context()
	w.eventually("the audit catches up", w.audited)
	origin, err := w.bus.JetStream().Stream(ctx, "KV_"+w.part.Runs.Name+"-runs")
	if err != nil {
		w.t.Fatal(err)
	}
	v.Revisions = origin.CachedInfo().State.LastSeq
	before := map[string]runs.Run{}
	err = w.each(ctx, "audit", ">", func(m jetstream.Msg) error {
		v.Seen++
		_, id, isRun := strings.Cut(m.Subject(), ".run.")
		if !isRun {
			return nil
		}
		var now runs.Run
		if err := json.Unmarshal(m.Data(), &now); err != nil {
			return nil // a withdrawn run: the document is gone
		}
		if then, ok := before[id]; ok {
			v.Double = append(v.Double, compare(then, now)...)
		}
		before[id] = now
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// compare holds two revisions of a run, one after the other, to the promise.
func compare(then, now runs.Run) (broken []string) {
	say := func(format string, args ...any) { broken = append(broken, now.ID+": "+fmt.Sprintf(format, args...)) }
	if then.State.Terminal() && (then.State != now.State || then.Result != now.Result) {
		say("was %s %q, became %s %q", then.State, then.Result, now.State, now.Result)
	}
	for i, old := range then.Shards {
		switch {
		case i >= len(now.Shards):
			say("shard %d is gone", i)
		case old.Done && !now.Shards[i].Done:
			say("shard %d was done and is not any more", i)
		case old.Done && (string(old.Result) != string(now.Shards[i].Result) || old.Claim != now.Shards[i].Claim):
			say("shard %d was committed twice: by %s and by %s", i, old.Worker, now.Shards[i].Worker)
		}
	}
	return broken
}
