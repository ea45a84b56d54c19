package main

import (
	"cmp"
	"container/heap"
	"slices"
)

// slot is a worker's place, in seconds of the schedule.
type slot struct{ from, until float64 }

// ideal is the end of the schedule in which every slot takes the next shard at the very moment at which it is free, and
// what a slot loses when it ends is there again at that moment. waste is the time that such slots had spent on it.
func ideal(durations []float64, slots []slot) (end, waste float64) {
	type lost struct{ at, seconds float64 }
	free := slotHeap(append([]slot(nil), slots...))
	heap.Init(&free)
	var back []lost
	for next := 0; (next < len(durations) || len(back) > 0) && len(free) > 0; {
		s := heap.Pop(&free).(slot)
		if s.from >= s.until {
			continue
		}
		var seconds float64
		switch {
		case len(back) > 0 && back[0].at <= s.from:
			seconds, back = back[0].seconds, back[1:]
		case next < len(durations):
			seconds = durations[next]
			next++
		default: // what is lost later comes back then
			s.from = back[0].at
			heap.Push(&free, s)
			continue
		}
		if s.from+seconds > s.until {
			back, waste = append(back, lost{s.until, seconds}), waste+s.until-s.from
			slices.SortFunc(back, func(a, b lost) int { return cmp.Compare(a.at, b.at) })
			continue
		}
		s.from += seconds
		end = max(end, s.from)
		heap.Push(&free, s)
	}
	return end, waste
}

// slotHeap has the slot on top that is free first.
type slotHeap []slot

func (h slotHeap) Len() int           { return len(h) }
func (h slotHeap) Less(i, k int) bool { return h[i].from < h[k].from }
func (h slotHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *slotHeap) Push(s any)        { *h = append(*h, s.(slot)) }
func (h *slotHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}
