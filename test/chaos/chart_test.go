package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// write stores the curves of a soak as JSON and, beside it, as a picture.
func (s *soak) write(path string, ends map[syscall.Signal]int) {
	s.t.Helper()
	data, err := json.Marshal(struct {
		Date    string              `json:"date"`
		Seconds float64             `json:"seconds"`
		Counts  map[string]int      `json:"runs"`
		Stopped int                 `json:"workers_stopped"`
		Killed  int                 `json:"workers_killed"`
		Curves  map[string][]sample `json:"curves"`
	}{time.Now().Format(time.DateOnly), time.Since(s.began).Seconds(), s.counts, ends[syscall.SIGTERM], ends[syscall.SIGKILL], s.curves})
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(strings.TrimSuffix(path, ".json")+".svg", []byte(s.chart()), 0o644)
	}
	if err != nil {
		s.t.Error(err)
	}
}

// chart draws one panel per measure, one line per process.
func (s *soak) chart() string {
	const width, height, left, gap = 720.0, 150.0, 60.0, 50.0
	colours := []string{"#1b6ca8", "#d1495b", "#2e8b57", "#8a5fbf", "#555"}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n",
		width+left+20, 3*(height+gap)+40)
	fmt.Fprint(&b, `<rect width="100%" height="100%" fill="white"/>`+"\n")
	for i, m := range measures {
		top := float64(i)*(height+gap) + 30
		most, last := 1.0, 1.0
		for _, curve := range s.curves {
			for _, at := range curve {
				most, last = max(most, m.of(at)), max(last, at.Seconds)
			}
		}
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" font-weight="bold">%s</text>`+"\n", left, top-8, m.name)
		fmt.Fprintf(&b, `<path d="M%.0f %.0fv%.0fh%.0f" fill="none" stroke="#999"/>`+"\n", left, top, height, width)
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="end">%.0f</text><text x="%.0f" y="%.0f" text-anchor="end">0</text>`+"\n",
			left-6, top+10, most, left-6, top+height)
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="end">%.0f min</text>`+"\n", left+width, top+height+15, last/60)
		for j, name := range s.names() {
			var points []string
			for _, at := range s.curves[name] {
				points = append(points, fmt.Sprintf("%.1f,%.1f", left+at.Seconds/last*width, top+height-m.of(at)/most*height))
			}
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), colours[j%len(colours)])
		}
	}
	for j, name := range s.names() {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`+"\n", left+float64(j)*150, 3*(height+gap)+30, colours[j%len(colours)], name)
	}
	return b.String() + "</svg>\n"
}
