package trainer

import (
	"slices"
	"sync"

	"github.com/dreamood/dreamood/internal/score"
)

// driftWindow is how many of the newest pictures are compared with the calibration.
const driftWindow = 2000

// Window is how the newest pictures that this process scored with a detector differ from those of its calibration.
type Window struct {
	Detector string // with its version
	Size     int    // pictures in the window
	Scored   int64  // pictures since the start of the process
	Refused  float64
	Expected float64 // share of the calibration that the threshold refuses
	Shift    score.Shift
}

// watcher keeps windows of the detectors used last.
type watcher struct {
	mu   sync.Mutex
	max  int
	list []*window // used last at the end
}

// window is a ring of the bins that scores fell into.
type window struct {
	detector string
	reference
	ring   []seen
	next   int
	scored int64
}

// reference is a calibration.
type reference struct {
	edges    []float64 // between the bins
	bins     []int     // pictures in them
	expected float64   // share that the threshold refuses
}

type seen struct {
	bin     uint8
	refused bool
}

func newWatcher(detectors int) *watcher { return &watcher{max: detectors} }

// observe notes scores of pictures.
func (w *watcher) observe(detector string, r reference, threshold float64, scores []float32) {
	if len(r.bins) < 2 || len(r.bins) > 256 || len(r.edges) != len(r.bins)-1 {
		return // made before calibrations were kept
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	win := w.find(detector, r)
	for _, s := range scores {
		one := seen{uint8(score.Bin(win.edges, float64(s))), float64(s) < threshold}
		if len(win.ring) < driftWindow {
			win.ring = append(win.ring, one)
		} else {
			win.ring[win.next] = one
		}
		win.next = (win.next + 1) % driftWindow
		win.scored++
	}
}

// find is the window of a detector; the one used longest ago makes room for a new one.
func (w *watcher) find(detector string, r reference) *window {
	if i := slices.IndexFunc(w.list, func(x *window) bool { return x.detector == detector }); i >= 0 {
		win := w.list[i]
		w.list = append(slices.Delete(w.list, i, i+1), win)
		return win
	}
	if len(w.list) >= w.max {
		w.list = slices.Delete(w.list, 0, 1)
	}
	win := &window{detector: detector, reference: r}
	w.list = append(w.list, win)
	return win
}

// windows are those of all detectors that were used lately.
func (w *watcher) windows() []Window {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Window
	for _, win := range w.list {
		out = append(out, win.now())
	}
	return out
}

// of is the window of one detector; empty where it has scored nothing.
func (w *watcher) of(detector string) Window {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, win := range w.list {
		if win.detector == detector {
			return win.now()
		}
	}
	return Window{Detector: detector}
}

func (w *window) now() Window {
	counts, refused := make([]int, len(w.bins)), 0
	for _, s := range w.ring {
		counts[s.bin]++
		if s.refused {
			refused++
		}
	}
	out := Window{Detector: w.detector, Size: len(w.ring), Scored: w.scored, Expected: w.expected, Shift: score.ShiftOf(counts, w.bins)}
	if len(w.ring) > 0 {
		out.Refused = float64(refused) / float64(len(w.ring))
	}
	return out
}
