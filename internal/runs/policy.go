package runs

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// ageStep is how long a lane's next shard waits for each class that it moves up.
const ageStep = 10 * time.Minute

// standing is what the policy sees of a lane: what one owner has in one class of a queue.
type standing struct {
	name     string // tells lanes apart that are equal in everything else
	class    Priority
	owner    string
	waiting  int64     // shards that nobody holds
	inFlight int64     // shards that workers hold
	oldest   time.Time // when its next shard was queued; only where some wait
	served   time.Time // when a shard of it was last taken; zero when never
}

// level is the class after ageing.
func (l *standing) level(now time.Time) Priority {
	aged := int64(max(now.Sub(l.oldest), 0) / ageStep)
	return Priority(min(int64(l.class)+aged, int64(High)))
}

// servingOrder returns the lanes in which shards wait, as indices, in the order in which they are to be served at a
// moment of the server's time. It compares, one after the other:
//
//  1. the class, after ageing: one class up per ageStep that the next shard has waited, up to High;
//  2. the owner's shards in flight, over all of the owner's lanes: fewer first;
//  3. when the owner was last served: longer ago first, so that owners take turns where they have equally many in flight;
//  4. the age of the next shard.
//
// Nothing waits for ever: after ageing everything is in one class; there the owners share the workers evenly, and what
// one owner has waiting is served in the order of its age.
func servingOrder(lanes []standing, now time.Time) []int {
	order, compare := rank(lanes, now)
	slices.SortFunc(order, compare)
	return order
}

// next is the first of servingOrder; -1 when nothing waits.
func next(lanes []standing, now time.Time) int {
	waiting, compare := rank(lanes, now)
	if len(waiting) == 0 {
		return -1
	}
	return slices.MinFunc(waiting, compare)
}

// rank returns the lanes in which shards wait and how two of them compare.
func rank(lanes []standing, now time.Time) (waiting []int, compare func(i, j int) int) {
	inFlight, served := map[string]int64{}, map[string]time.Time{}
	for i := range lanes {
		l := &lanes[i]
		inFlight[l.owner] += l.inFlight
		if l.served.After(served[l.owner]) {
			served[l.owner] = l.served
		}
		if l.waiting > 0 {
			waiting = append(waiting, i)
		}
	}
	return waiting, func(i, j int) int {
		a, b := &lanes[i], &lanes[j]
		return cmp.Or(
			-cmp.Compare(a.level(now), b.level(now)),
			cmp.Compare(inFlight[a.owner], inFlight[b.owner]),
			served[a.owner].Compare(served[b.owner]),
			a.oldest.Compare(b.oldest),
			strings.Compare(a.name, b.name),
		)
	}
}
