package chaos

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/runs"
)

const kind = "sum"

// play is one run that the client wants, and how it must end.
type play struct {
	Name   string // also its request id
	Shards int
	Fate   string        // see work
	Cancel bool          // by the client, as soon as a worker has begun
	Pause  bool          // … and resumed
	Delete bool          // by the client, when it has ended
	Retry  string        // it is the retry of this one
	After  string        // it waits for this one, and is planned by a worker then
	Limit  time.Duration // of its time, from the first shard taken; 0: none
	End    runs.State
}

// script is what the client of every world wants. It may be killed and begin again at any point.
var script = []play{
	{Name: "plain", Shards: 3, End: runs.Succeeded},
	{Name: "flaky", Shards: 2, Fate: "flaky", End: runs.Succeeded},
	{Name: "flaky-finish", Shards: 1, Fate: "flaky-finish", End: runs.Succeeded},
	{Name: "slow", Shards: 1, Fate: "slow", End: runs.Succeeded},
	{Name: "dropped", Shards: 2, Fate: "drop", End: runs.Failed},
	{Name: "dropped-finish", Shards: 1, Fate: "drop-finish", End: runs.Failed},
	{Name: "cancelled", Shards: 2, Fate: "block", Cancel: true, End: runs.Cancelled},
	{Name: "paused", Shards: 2, Fate: "patient", Pause: true, End: runs.Succeeded},
	{Name: "mended", Shards: 2, Fate: "drop-first", End: runs.Failed},
	{Name: "second-life", Shards: 2, Retry: "mended", End: runs.Succeeded},
	{Name: "after", Shards: 2, After: "paused", End: runs.Succeeded},
	{Name: "after-flaky", Shards: 1, After: "paused", Fate: "flaky-plan", End: runs.Succeeded},
	{Name: "after-dropped", Shards: 1, After: "paused", Fate: "drop-plan", End: runs.Failed},
	{Name: "in-vain", Shards: 1, After: "cancelled", End: runs.Failed},
	{Name: "late", Shards: 2, Fate: "block", Limit: 300 * time.Millisecond, End: runs.Failed},
	{Name: "deleted", Shards: 1, Delete: true, End: runs.Succeeded},
}

func (p play) spec(after ...string) runs.Spec {
	payload, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers
	}
	spec := runs.Spec{
		Kind: kind, RequestID: p.Name, Owner: "ann", Payload: payload, Shards: p.Shards, Target: "sums/" + p.Name,
		Unit: "numbers", Total: int64(p.Shards) * numbers,
	}
	spec.Options.TimeLimit = p.Limit
	if len(after) > 0 {
		spec.Options.After = after
		spec.Plan = func(context.Context, []byte, string) (runs.Plan, error) { return p.plan(), nil }
	}
	return spec
}

func (p play) plan() runs.Plan {
	return runs.Plan{Shards: p.Shards, Target: "sums/" + p.Name, Unit: "numbers", Total: int64(p.Shards) * numbers}
}

// numbers are summed by one shard, and their bytes are its blob.
const numbers = 4096

// blob is the bulk that a shard makes: a function of the run's name and the shard alone.
func blob(name string, shard int) []byte {
	data := make([]byte, 0, 8*numbers)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", name, shard))
	for len(data) < cap(data) {
		sum = sha256.Sum256(sum[:])
		data = append(data, sum[:]...)
	}
	return data
}

func add(data []byte) (sum uint64) {
	for ; len(data) >= 8; data = data[8:] {
		sum += binary.LittleEndian.Uint64(data)
	}
	return sum
}

// result is what a shard returns.
type result struct {
	Blob artifact.Ref `json:"blob"`
	Sum  uint64       `json:"sum"`
}

// want is the name of the resource that a run makes when nothing disturbs it.
func (p play) want() string {
	var total uint64
	for shard := range p.Shards {
		total += add(blob(p.origin(), shard))
	}
	return fmt.Sprintf("sums/%s=%016x", p.origin(), total)
}

// letters is how many dead letters its run leaves: one when a shard, the finish or the planning has failed it.
func (p play) letters() int {
	if strings.HasPrefix(p.Fate, "drop") || strings.HasPrefix(p.Fate, "die") {
		return 1
	}
	return 0
}

// origin names the play that the payload speaks of.
func (p play) origin() string { return cmp.Or(p.Retry, p.Name) }

// summing is the worker: its fates are those of the plays.
type summing struct {
	blobs    artifact.Store
	say      func(format string, args ...any)
	lingered bool      // nobody will tell this process to stop
	failed   *sync.Map // the plans that were flaky once in this process
}

func playOf(run runs.Run) (p play, err error) {
	err = json.Unmarshal(run.Payload, &p)
	return p, err
}

func (w summing) work(ctx context.Context, task *runs.Task) ([]byte, error) {
	p, err := playOf(task.Run)
	if err != nil {
		return nil, runs.Drop(err)
	}
	w.say("working %s %d", p.Name, task.Shard)
	switch p.Fate {
	case "flaky":
		if task.Attempt == 1 {
			return nil, runs.Retry(20*time.Millisecond, errors.New("flaky, as ordered"))
		}
	case "drop":
		return nil, runs.Drop(errors.New("dropped, as ordered"))
	case "drop-first":
		if task.Run.RetryOf == "" {
			return nil, runs.Drop(errors.New("dropped, as ordered"))
		}
	case "block":
		<-ctx.Done()
		return nil, ctx.Err()
	case "patient": // until it is paused
		if task.Run.Pauses == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	case "linger": // long enough to be told to stop, unless it was before
		if err := w.linger(ctx); err != nil {
			return nil, err
		}
	case "slow":
		for i := range 10 {
			task.Report(int64(i)*numbers/10, numbers, "summing")
			if err := wait(ctx, 20*time.Millisecond); err != nil {
				return nil, err
			}
		}
	case "long":
		if err := wait(ctx, 2*time.Second); err != nil {
			return nil, err
		}
	case "die": // in its first life
		if task.Shard == 0 && task.Run.RetryOf == "" {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		}
	}
	data := blob(p.Name, task.Shard)
	ref, err := artifact.PutBytes(ctx, w.blobs, data)
	if err != nil {
		return nil, err
	}
	task.Report(numbers, numbers, "")
	return json.Marshal(result{Blob: ref, Sum: add(data)})
}

func (w summing) plan(ctx context.Context, payload []byte, run string) (runs.Plan, error) {
	var p play
	if err := json.Unmarshal(payload, &p); err != nil {
		return runs.Plan{}, runs.Drop(err)
	}
	w.say("planning %s", p.Name)
	switch p.Fate {
	case "flaky-plan":
		if _, again := w.failed.LoadOrStore(run, true); !again {
			return runs.Plan{}, runs.Retry(20*time.Millisecond, errors.New("flaky, as ordered"))
		}
	case "drop-plan":
		return runs.Plan{}, runs.Drop(errors.New("dropped, as ordered"))
	case "linger-plan":
		if err := w.linger(ctx); err != nil {
			return runs.Plan{}, err
		}
	case "die-plan":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	}
	return p.plan(), nil
}

// finish sums what lies in the blobs, not what the shards said of them.
func (w summing) finish(ctx context.Context, run runs.Run) (string, error) {
	p, err := playOf(run)
	if err != nil {
		return "", runs.Drop(err)
	}
	w.say("finishing %s", p.Name)
	switch p.Fate {
	case "flaky-finish":
		if run.Final.Attempt == 1 {
			return "", runs.Retry(20*time.Millisecond, errors.New("flaky, as ordered"))
		}
	case "drop-finish":
		return "", runs.Drop(errors.New("dropped, as ordered"))
	case "linger-finish":
		if err := w.linger(ctx); err != nil {
			return "", err
		}
	case "die-finish":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	}
	var total uint64
	for i, shard := range run.Shards {
		sum, err := check(ctx, w.blobs, shard.Result)
		if ctx.Err() != nil { // told to stop: that is no answer
			return "", ctx.Err()
		}
		if err != nil {
			return "", runs.Drop(fmt.Errorf("shard %d: %w", i, err))
		}
		total += sum
	}
	return fmt.Sprintf("sums/%s=%016x", p.Name, total), nil
}

// check reads the blob of a result and returns its sum.
func check(ctx context.Context, blobs artifact.Store, data []byte) (uint64, error) {
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, fmt.Errorf("result %q: %w", data, err)
	}
	bulk, err := artifact.ReadAll(ctx, blobs, r.Blob, 8*numbers)
	if err != nil {
		return 0, err
	}
	if sum := add(bulk); sum != r.Sum || len(bulk) != 8*numbers {
		return 0, fmt.Errorf("%d bytes sum up to %x, the shard said %x", len(bulk), sum, r.Sum)
	}
	return r.Sum, nil
}

// linger works until the process is told to stop.
func (w summing) linger(ctx context.Context) error {
	if w.lingered {
		return nil
	}
	return wait(ctx, 5*time.Minute)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
