package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dreamood/dreamood/internal/runs"
)

// records are the figures of `make chaos`.
var records = &record{Points: map[string]*tally{}}

// strike is one kill: a process, the server, or both at once.
type strike struct{ Who, Point, Victim string }

func (s strike) String() string { return fmt.Sprintf("%s at %s (%s)", s.Who, s.Point, s.Victim) }

// tally is what came of the kills at one point.
type tally struct {
	Process int `json:"process"`
	Server  int `json:"server"`
	Both    int `json:"both"`
	Lost    int `json:"lost"`
	Double  int `json:"double"`
	Wrong   int `json:"wrong"`
}

type record struct {
	mu       sync.Mutex
	Date     string            `json:"date"`
	Go       string            `json:"go"`
	NATS     string            `json:"nats_server"`
	Worlds   int               `json:"worlds"`
	Runs     int               `json:"runs"`  // accepted in them
	Kills    int               `json:"kills"` // kill -9, a kill of both counted once
	Suicides int               `json:"processes_killed_by_their_work"`
	Lost     int               `json:"lost"`
	Double   int               `json:"double"`
	Wrong    int               `json:"wrong"`
	Written  uint64            `json:"revisions_written"`
	Audited  uint64            `json:"revisions_audited"`
	Seconds  float64           `json:"seconds"` // of all worlds, many at a time
	Points   map[string]*tally `json:"points"`
	Others   []other           `json:"others"`

	Unhit   []string `json:"points_without_every_kill"`
	Unended []string `json:"worlds_without_an_end"` // that failed before they could be judged: count them as lost
}

// other is a test without a point.
type other struct {
	Name    string  `json:"name"`
	Lost    int     `json:"lost"`
	Double  int     `json:"double"`
	Wrong   int     `json:"wrong"`
	Seconds float64 `json:"seconds"`
}

func (r *record) sum(v verdict, took time.Duration, plays int) {
	r.Worlds++
	r.Runs += plays
	r.Lost += len(v.Lost)
	r.Double += len(v.Double)
	r.Wrong += len(v.Wrong)
	r.Written += v.Revisions
	r.Audited += v.Seen
	r.Seconds += took.Seconds()
}

// begin notes a world that has no end yet.
func (r *record) begin(k killing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Unended = append(r.Unended, k.name())
}

// killing notes the world of a kill. What it came to is noted at the point that it was about.
func (r *record) killing(s *stage, v verdict, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Unended = slices.DeleteFunc(r.Unended, func(name string) bool { return name == s.name() })
	r.sum(v, took, len(s.plays))
	r.Suicides += s.deaths
	at := func(point string) *tally {
		if r.Points[point] == nil {
			r.Points[point] = &tally{}
		}
		return r.Points[point]
	}
	for _, k := range s.struck {
		r.Kills++
		switch k.Victim {
		case "process":
			at(k.Point).Process++
		case "server":
			at(k.Point).Server++
		default:
			at(k.Point).Both++
		}
	}
	t := at(s.Point)
	t.Lost, t.Double, t.Wrong = t.Lost+len(v.Lost), t.Double+len(v.Double), t.Wrong+len(v.Wrong)
}

func (r *record) other(name string, v verdict, took time.Duration, plays int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum(v, took, plays)
	r.Others = append(r.Others, other{name, len(v.Lost), len(v.Double), len(v.Wrong), took.Seconds()})
}

// complete says what is missing for the whole table.
func (r *record) complete() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, point := range runs.Points() {
		if t := r.Points[point]; t == nil || t.Process == 0 || t.Server == 0 || t.Both == 0 {
			r.Unhit = append(r.Unhit, point)
		}
	}
	if len(r.Unhit)+len(r.Unended) > 0 {
		return fmt.Errorf("not every victim was killed at %v; without an end: %v", r.Unhit, r.Unended)
	}
	return nil
}

// write prints the table and stores the record.
func (r *record) write(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Date, r.Go, r.NATS = time.Now().Format(time.DateOnly), runtime.Version(), server.VERSION
	slices.SortFunc(r.Others, func(a, b other) int { return strings.Compare(a.Name, b.Name) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "point\tprocess\tserver\tboth\tlost\tdouble\twrong")
	for _, point := range runs.Points() {
		if t := r.Points[point]; t != nil {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", point, t.Process, t.Server, t.Both, t.Lost, t.Double, t.Wrong)
		}
	}
	for _, o := range r.Others {
		fmt.Fprintf(w, "%s\t\t\t\t%d\t%d\t%d\n", o.Name, o.Lost, o.Double, o.Wrong)
	}
	fmt.Fprintf(w, "%d worlds, %d runs, %d kills\t\t\t\t%d\t%d\t%d\n", r.Worlds, r.Runs, r.Kills, r.Lost, r.Double, r.Wrong)
	if err := w.Flush(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
