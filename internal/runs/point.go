package runs

import "slices"

// points are the places where a process may die between two steps of the protocol: each stands behind one that others
// can see. Tests kill a process there (Deps.Point); point_test.go holds the list and the code together.
//
// "shard.", "finish." and "plan." share code (attempt.step): an attempt at a shard, at the finish, at the planning.
var points = []string{
	"submit.reserved",  // the request id names the run; there is no document yet
	"submit.created",   // the document is there, from here on the run is accepted; nobody was told
	"submit.announced", // the first event is out; no message yet
	"submit.published", // one message more is in the queue; hit once per shard
	"submit.withdrawn", // the document is gone again, the queue was full; messages and events remain

	"message.received", // a message is in a worker's hands; nothing was looked at
	"message.acked",    // it is out of the queue
	"message.dead",     // Abandon has cleaned up after a run that ended; the message is still there

	"shard.claimed", "finish.claimed", "plan.claimed", // an attempt is counted; the work has not begun
	"shard.worked", "finish.worked", "plan.worked", // the work has returned (its blobs are stored); the document does not know
	"shard.committed", "finish.committed", "plan.committed", // the document says done; no event
	"shard.announced", "finish.announced", "plan.announced", // the event is out; the message is still there
	"shard.retried", "finish.retried", "plan.retried", // the document says that it failed once more; the message is still taken
	"shard.failed", "finish.failed", "plan.failed", // the run has failed; no event, no clean-up
	"shard.released", "finish.released", "plan.released", // a shutdown took the attempt back; the message is still taken
	"shard.exhausted", "finish.exhausted", "plan.exhausted", // the claim found no attempt left and failed the run; no event

	"progress.written", // progress is in the document; no event
	"cancel.written",   // the run is cancelled; no event
	"pause.written",    // the run is paused; no event, its messages are still there
	"pause.purged",     // its messages are gone
	"resume.written",   // the run goes on; no event, no messages
	"retry.reserved",   // the old run names the new one; there is no document yet
	"delete.emptied",   // events and request id are gone; the document is still there

	"expired.written", // the time of the run is up, it has failed; no event
	"dead.written",    // the dead letter is there; its message is still in the queue

	"dependent.waits",    // a run has ended; one that waits for it does not know yet
	"dependent.released", // the document of the one that waits knows; no event, no messages

	"reconcile.published", // one missing message is back in the queue
	"watch.repaired",      // a lost terminal event is out
}

// Points names the places where Deps.Point is called.
func Points() []string { return slices.Clone(points) }

// point is one of points.
func (s *Service) point(name string) {
	if s.at != nil {
		s.at(name)
	}
}

// step is the point of an attempt, at a shard, at the finish or at the planning.
func (a *attempt) step(name string) {
	switch a.unit {
	case finishUnit:
		a.s.point("finish." + name)
	case planUnit:
		a.s.point("plan." + name)
	default:
		a.s.point("shard." + name)
	}
}
