package runs

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// anyLanes draws lanes of few owners and times, so that everything ties now and then.
func anyLanes(t *rapid.T) []standing {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return epoch.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
	})
	lanes := make([]standing, rapid.IntRange(0, 12).Draw(t, "lanes"))
	for i := range lanes {
		lanes[i] = standing{
			name: fmt.Sprintf("lane-%02d", i), class: Priority(rapid.IntRange(-1, 1).Draw(t, "class")),
			owner: rapid.SampledFrom([]string{"ann", "bob", "eve"}).Draw(t, "owner"), waiting: rapid.Int64Range(0, 3).Draw(t, "waiting"),
			inFlight: rapid.Int64Range(0, 3).Draw(t, "in flight"), oldest: moment.Draw(t, "oldest"),
		}
		if rapid.Bool().Draw(t, "was served") {
			lanes[i].served = moment.Draw(t, "served")
		}
	}
	return lanes
}

// goesBefore is the policy as its comment says it, sentence by sentence.
func goesBefore(lanes []standing, i, j int, now time.Time) bool {
	levelOf := func(l standing) int {
		level := int(l.class)
		for waited := now.Sub(l.oldest); waited >= 10*time.Minute && level < int(High); waited -= 10 * time.Minute {
			level++
		}
		return level
	}
	inFlight := func(owner string) (sum int64) {
		for _, l := range lanes {
			if l.owner == owner {
				sum += l.inFlight
			}
		}
		return sum
	}
	served := func(owner string) (last time.Time) {
		for _, l := range lanes {
			if l.owner == owner && l.served.After(last) {
				last = l.served
			}
		}
		return last
	}
	a, b := lanes[i], lanes[j]
	if x, y := levelOf(a), levelOf(b); x != y {
		return x > y
	}
	if x, y := inFlight(a.owner), inFlight(b.owner); x != y {
		return x < y
	}
	if x, y := served(a.owner), served(b.owner); !x.Equal(y) {
		return x.Before(y)
	}
	if !a.oldest.Equal(b.oldest) {
		return a.oldest.Before(b.oldest)
	}
	return a.name < b.name
}

func TestServingOrderIsThePolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lanes := anyLanes(t)
		now := epoch.Add(time.Duration(rapid.IntRange(0, 70).Draw(t, "now")) * time.Minute)
		var want []int
		for i := range lanes {
			if lanes[i].waiting > 0 {
				want = append(want, i)
			}
		}
		for i := range want { // selection sort
			for j := i + 1; j < len(want); j++ {
				if goesBefore(lanes, want[j], want[i], now) {
					want[i], want[j] = want[j], want[i]
				}
			}
		}
		if got := servingOrder(lanes, now); !slices.Equal(got, want) {
			t.Fatalf("order %v, want %v", got, want)
		}
		first := -1
		if len(want) > 0 {
			first = want[0]
		}
		if got := next(lanes, now); got != first {
			t.Fatalf("next %d, want %d", got, first)
		}
	})
}

// shop is workers under the policy, minute by minute.
type shop struct {
	now   time.Time
	slots int
	lanes []standing
	queue [][]time.Time // of each lane: when its shards were queued
	busy  []job
}

type job struct {
	lane  int
	until time.Time
}

func (s *shop) add(lane int) { s.queue[lane] = append(s.queue[lane], s.now) }

// see brings what the policy sees up to date.
func (s *shop) see() []standing {
	for i := range s.lanes {
		l := &s.lanes[i]
		l.waiting, l.inFlight, l.oldest = int64(len(s.queue[i])), 0, s.now
		if l.waiting > 0 {
			l.oldest = s.queue[i][0]
		}
		for _, j := range s.busy {
			if j.lane == i {
				l.inFlight++
			}
		}
	}
	return s.lanes
}

// minute ends what is done and fills the free slots; each choice is shown before it is made.
func (s *shop) minute(took func(lane int) time.Duration, chosen func(lane int)) {
	s.now = s.now.Add(time.Minute)
	s.busy = slices.DeleteFunc(s.busy, func(j job) bool { return !j.until.After(s.now) })
	for len(s.busy) < s.slots {
		i := next(s.see(), s.now)
		if i < 0 {
			return
		}
		chosen(i)
		s.queue[i] = s.queue[i][1:]
		s.lanes[i].served = s.now.Add(time.Duration(len(s.busy)) * time.Millisecond) // one after the other
		s.busy = append(s.busy, job{i, s.now.Add(took(i))})
	}
}

func newShop(slots int, lanes ...standing) *shop {
	for i := range lanes {
		lanes[i].name = fmt.Sprintf("lane-%02d", i)
	}
	return &shop{now: epoch, slots: slots, lanes: lanes, queue: make([][]time.Time, len(lanes))}
}

// TestNothingStarves has owners flood the queue with work of high class at twice what the workers can do, for ever, and
// drops one low shard in, of an owner who floods too or of one who does not.
func TestNothingStarves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		slots, owners := rapid.IntRange(1, 4).Draw(t, "slots"), rapid.IntRange(1, 4).Draw(t, "owners")
		var lanes []standing
		for i := range owners {
			lanes = append(lanes, standing{class: High, owner: fmt.Sprint(i)})
		}
		low := len(lanes)
		s := newShop(slots, append(lanes, standing{class: Low, owner: fmt.Sprint(rapid.IntRange(0, owners).Draw(t, "whose"))})...)
		minutes := rapid.IntRange(1, 15)
		took := func(int) time.Duration { return time.Duration(minutes.Draw(t, "minutes")) * time.Minute }
		begin := rapid.IntRange(0, 60).Draw(t, "begin")
		// At its turn the backlog is at most what came in 20 minutes after it, and half as much again before; each of
		// the owners gets its share of the workers.
		within, waited := (begin+20)*3*15*(owners+1), -1
		for m := 0; waited < 0 && m < begin+within; m++ {
			for i := range owners {
				for range max(1, 2*slots/owners) {
					s.add(i)
				}
			}
			if m == begin {
				s.add(low)
			}
			s.minute(took, func(lane int) {
				if lane == low {
					waited = m - begin
				}
			})
		}
		if waited < 0 {
			t.Fatalf("a low shard waits for more than %d minutes", within)
		}
	})
}

// TestOwnersShareEvenly gives owners more work than can be done, in unequal amounts and classes that age alike: the
// slots are divided evenly, and one slot goes round.
func TestOwnersShareEvenly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		slots, owners := rapid.IntRange(1, 9).Draw(t, "slots"), rapid.IntRange(2, 5).Draw(t, "owners")
		var lanes []standing
		for i := range owners {
			lanes = append(lanes, standing{class: Normal, owner: fmt.Sprint(i)})
		}
		s := newShop(slots, lanes...)
		for i := range owners {
			for range 500 * (1 + i*rapid.IntRange(0, 3).Draw(t, "greed")) {
				s.add(i)
			}
		}
		minutes := rapid.IntRange(1, 3)
		var turns []int
		for range 60 {
			s.minute(func(int) time.Duration { return time.Duration(minutes.Draw(t, "minutes")) * time.Minute },
				func(lane int) { turns = append(turns, lane) })
			least, most := int64(slots), int64(0)
			for _, l := range s.see() {
				least, most = min(least, l.inFlight), max(most, l.inFlight)
			}
			if most > least+1 {
				t.Fatalf("owners have from %d to %d of %d slots", least, most, slots)
			}
		}
		if slots > 1 {
			return
		}
		for i := owners; i <= len(turns); i++ {
			round := slices.Clone(turns[i-owners : i])
			slices.Sort(round)
			if len(slices.Compact(round)) != owners {
				t.Fatalf("turns %v: somebody came twice before all came once", turns)
			}
		}
	})
}

// TestClassesBeforeAgeing takes no lower class while a higher one waits, as long as nothing has waited for ageStep.
func TestClassesBeforeAgeing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var lanes []standing
		for i := range rapid.IntRange(1, 9).Draw(t, "lanes") {
			lanes = append(lanes, standing{class: Priority(i%3 - 1), owner: rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "owner")})
		}
		s := newShop(rapid.IntRange(1, 4).Draw(t, "slots"), lanes...)
		for range 9 {
			for i := range lanes {
				if rapid.Bool().Draw(t, "comes") {
					s.add(i)
				}
			}
			s.minute(func(int) time.Duration { return time.Minute }, func(lane int) {
				for _, l := range s.see() {
					if l.waiting > 0 && l.class > s.lanes[lane].class {
						t.Fatalf("class %d is taken while %d waits", s.lanes[lane].class, l.class)
					}
				}
			})
		}
	})
}
