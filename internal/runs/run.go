// Package runs is long work on a JetStream work queue: a run is submitted once, waits in shards, reports progress, can
// be watched from any point and cancelled at once, and survives the death of any process.
//
// The state of a run is one document in a key-value bucket and changes only by compare-and-set. A message in the queue
// is no more than the permission to look at that document:
//
//	Submit   document PENDING → one message per shard → event
//	deliver  look at the document first: ended or done already → acknowledge; otherwise claim the shard (a fresh
//	         random claim, an attempt more), so that whoever held it before can no longer commit
//	commit   compare-and-set on revision and claim → event → double acknowledgement
//	finish   the worker that commits the last shard assembles the result, still under that shard's message
//
// A message that is lost between two steps is put back by the reconciler (Start); an event that is lost, by the next
// watcher. Attempts are counted in the document, because the queue also counts deliveries that were given back.
package runs

import (
	"context"
	"encoding/json"
	"time"
)

// State of a run. Succeeded, Failed and Cancelled are final.
type State string

// The states of a run.
const (
	Pending   State = "PENDING"   // waits for a worker
	Running   State = "RUNNING"   // a worker has taken at least one shard
	Paused    State = "PAUSED"    // by Pause, until Resume: nothing of it is in the queue
	Succeeded State = "SUCCEEDED" // Result names what was made
	Failed    State = "FAILED"    // Failure says why
	Cancelled State = "CANCELLED" // by Cancel
)

// Terminal says that the state never changes again.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Spec is a request for a run.
type Spec struct {
	// Kind of work, for example "render-set": [a-z][a-z0-9-]{0,62}. Each kind has a queue and workers of its own.
	Kind string
	// RequestID makes Submit idempotent per (Owner, Kind); at most 256 bytes. Empty: every call makes a run.
	RequestID string
	// Owner is the client; at most 256 bytes.
	Owner string
	// Payload is the request as JSON, at most 128 KiB; white space outside strings does not matter.
	Payload []byte
	// Shards are worked on independently, 1 to 512; 0 means 1.
	Shards int
	// Target is the resource that the run makes, for example "sets/demo".
	Target string
	// Unit of progress, for example "pictures", and how many there are; 0 when the workers will tell.
	Unit  string
	Total int64
	// Options say how it is treated.
	Options Options
	// Plan, if set, looks whether a request that was not accepted before can work, and how; its error refuses it. What it
	// returns replaces Payload, Shards, Target, Unit and Total. When the run waits for others (Options.After), which may
	// make what the request names, a worker plans it after they have succeeded: see Worker.Plan.
	Plan Planner
	// Later leaves the plan to a worker of the kind, also where the run waits for nothing: for who cannot plan it.
	Later bool
}

// Planner looks whether a request can work and says how. run is the id of the run that is planned, empty before there
// is one. Its error means what that of Worker.Work does.
type Planner func(ctx context.Context, payload []byte, run string) (Plan, error)

// Plan is how a run is worked off; the fields are those of Spec. The payload may be the request with its defaults. An
// empty payload, target or unit leaves that of the Spec.
type Plan struct {
	Payload []byte
	Shards  int
	Target  string
	Unit    string
	Total   int64
}

// Run is one piece of long work as it stood at some moment.
type Run struct {
	ID          string          `json:"id"` // sorts by time of submission
	Kind        string          `json:"kind"`
	State       State           `json:"state"`
	RequestID   string          `json:"request_id"`
	RequestHash string          `json:"request_hash"` // of the payload
	Owner       string          `json:"owner,omitempty"`
	Target      string          `json:"target,omitempty"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	Options     Options         `json:"options,omitzero"`
	Trace       string          `json:"trace,omitempty"` // W3C traceparent of the submission, which every message of the run carries

	Shards     []ShardState `json:"shards,omitempty"` // not in events
	ShardCount int          `json:"shard_count"`
	ShardsDone int          `json:"shards_done"`
	Final      ShardState   `json:"final,omitzero"`     // the call of Worker.Finish
	Finisher   int          `json:"finisher,omitempty"` // the shard that was done last: its message carries Final

	WaitingFor []string   `json:"waiting_for,omitempty"` // of Options.After: not SUCCEEDED when last looked at
	Dependents []string   `json:"dependents,omitempty"`  // runs that wait for this one; not in events
	Unplanned  bool       `json:"unplanned,omitempty"`   // it has no shards yet, Worker.Plan says which
	Planning   ShardState `json:"planning,omitzero"`     // the call of Worker.Plan

	Planned         int64    `json:"planned,omitempty"` // Spec.Total
	Progress        Progress `json:"progress"`
	Result          string   `json:"result,omitempty"`
	Failure         *Failure `json:"failure,omitempty"`
	Dead            *dead    `json:"dead,omitempty"` // the shard that the run failed of; not in events
	CancelRequested bool     `json:"cancel_requested,omitempty"`
	Attempts        int      `json:"attempts,omitempty"` // begun over all shards, without those that were given back

	Pauses    int           `json:"pauses,omitempty"`   // how often it was paused
	PausedAt  time.Time     `json:"paused_at,omitzero"` // while PAUSED
	PausedFor time.Duration `json:"paused_for,omitempty"`
	Origin    string        `json:"origin"`               // first run of the chain of retries; key of what outlives a run, for example check-points
	RetryOf   string        `json:"retry_of,omitempty"`   // the run before in the chain
	RetriedBy string        `json:"retried_by,omitempty"` // the run after it: reserved first, then made

	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Updated time.Time `json:"updated"`

	// Sequence of the last event when the run was read by Get, Submit or Cancel, and in events: Watch after it misses
	// nothing. 0 from List.
	Sequence uint64 `json:"-"`

	revision uint64 // of the document
}

// ShardState is a shard's part of the document.
type ShardState struct {
	Done    bool   `json:"done,omitempty"`
	Attempt int    `json:"attempt,omitempty"` // begun, without those that a shutdown or a pause gave back
	Claim   string `json:"claim,omitempty"`   // random; whoever holds it may commit
	Worker  string `json:"worker,omitempty"`  // the process of the last claim
	Pauses  int    `json:"pauses,omitempty"`  // Run.Pauses at the last claim
	Units   int64  `json:"units,omitempty"`   // done, as reported
	Millis  int64  `json:"millis,omitempty"`  // that the work took, where one attempt did all of it
	Total   int64  `json:"total,omitempty"`
	Result  []byte `json:"result,omitempty"` // what Work returned
	Error   string `json:"error,omitempty"`  // of the last attempt that failed

	AwaySince time.Time `json:"away_since,omitzero"` // since when attempts fail because another service is away
	Aways     int       `json:"aways,omitempty"`     // how many did since
}

// Progress of a run, summed over its shards.
type Progress struct {
	Done    int64  `json:"done"`
	Total   int64  `json:"total"` // 0 when not known yet
	Unit    string `json:"unit,omitempty"`
	Message string `json:"message,omitempty"` // for people: the last one reported
}

// Failure says why a run failed.
type Failure struct {
	Reason  string `json:"reason"` // see Deps.Reason
	Message string `json:"message"`
}

// Event is a run at one of its changes.
type Event struct {
	Sequence uint64
	Time     time.Time // by the server's clock
	Run      Run       // without Shards
}

// These stand beside the shard numbers.
const (
	finishUnit = -1 // the call of Worker.Finish
	planUnit   = -2 // the call of Worker.Plan
)

// unit is the state of a shard, of the finish or of the planning.
func (r *Run) unit(i int) *ShardState {
	switch i {
	case finishUnit:
		return &r.Final
	case planUnit:
		return &r.Planning
	}
	return &r.Shards[i]
}

// due are the units that must have a message in the queue.
func (r *Run) due() []int {
	switch {
	case r.State.Terminal(), r.State == Paused, len(r.WaitingFor) > 0:
		return nil
	case r.Unplanned:
		return []int{planUnit}
	}
	var list []int
	for shard := range r.Shards {
		if !r.Shards[shard].Done || r.allDone() && shard == r.Finisher {
			list = append(list, shard)
		}
	}
	return list
}

func (r *Run) allDone() bool { return r.ShardsDone == r.ShardCount && !r.Unplanned }

// sum brings the totals up to date with the shards.
func (r *Run) sum() {
	var done, total int64
	r.ShardCount, r.ShardsDone, r.Attempts = len(r.Shards), 0, 0
	for _, shard := range r.Shards {
		done += shard.Units
		total += shard.Total
		r.Attempts += shard.Attempt
		if shard.Done {
			r.ShardsDone++
		}
	}
	r.Progress.Done, r.Progress.Total = done, r.Planned
	if r.Planned == 0 {
		r.Progress.Total = total
	}
}

// resume ends a pause.
func (r *Run) resume(now time.Time) {
	r.State = Running
	if r.Started.IsZero() {
		r.State = Pending
	}
	r.PausedFor += max(now.Sub(r.PausedAt), 0)
	r.PausedAt = time.Time{}
}

// end moves to a terminal state.
func (r *Run) end(state State, now time.Time) {
	r.State, r.Ended = state, now
}
