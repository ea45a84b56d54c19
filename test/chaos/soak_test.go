package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/runs"
)

// sample is what a process holds at a moment.
type sample struct {
	Seconds    float64 `json:"seconds"`
	Goroutines int     `json:"goroutines"`
	RSS        float64 `json:"rss_mib"`
	Files      int     `json:"files"`
}

// samples says every so often what this process holds.
func (m *mouth) samples(every time.Duration) {
	for range time.Tick(every) {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return // no Linux
		}
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			return
		}
		pages, err := strconv.Atoi(strings.Fields(string(text))[1])
		if err != nil {
			return
		}
		m.say("sample %d %d %d", runtime.NumGoroutine(), pages*os.Getpagesize(), len(files))
	}
}

// steady is a client that submits a run at every tick, follows it, compares what it made, and deletes it.
type steady struct{ client }

func (c *steady) play(ctx context.Context, pace time.Duration) error {
	var group sync.WaitGroup
	defer group.Wait()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		fates := []string{"", "", "flaky", "flaky-finish", "slow"}
		p := play{Name: fmt.Sprintf("soak-%d", n), Shards: 1 + n%4, Fate: fates[n%len(fates)], End: runs.Succeeded}
		group.Go(func() { c.one(p) })
	}
}

// one is the life of one run. It is lived to its end also after the client was told to stop.
func (c *steady) one(p play) {
	ctx := context.Background()
	var run runs.Run
	err := again(ctx, func() (err error) {
		run, _, err = c.runs.Submit(ctx, p.spec())
		return err
	})
	c.say("count submitted")
	if err == nil {
		err = again(ctx, func() error { return c.runs.Watch(ctx, run.ID, 0, func(runs.Event) error { return nil }) })
	}
	if err == nil {
		err = again(ctx, func() (err error) { run, err = c.runs.Get(ctx, run.ID); return err })
	}
	switch {
	case err != nil:
		c.say("count lost %s %v", p.Name, err)
	case run.Result != p.want():
		c.say("count wrong %s %s %q %+v", p.Name, run.State, run.Result, run.Failure)
	default:
		c.say("count done")
	}
	err = again(ctx, func() error {
		if err := c.runs.Delete(ctx, run.ID); !errors.Is(err, runs.ErrNotFound) {
			return err
		}
		return nil
	})
	if err != nil {
		c.say("count kept %s %v", p.Name, err)
	}
}

// soak is half an hour of ordinary life.
type soak struct {
	*world
	began  time.Time
	mu     sync.Mutex
	curves map[string][]sample
	counts map[string]int
	notes  []string
}

func (s *soak) told(p *process, words []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if words[0] == "count" {
		s.counts[words[1]]++
		if len(words) > 2 {
			s.notes = append(s.notes, strings.Join(words[1:], " "))
		}
		return
	}
	if _, ok := s.curves[p.name]; !ok {
		return // one that comes and goes
	}
	var at sample
	var bytes int
	if _, err := fmt.Sscan(strings.Join(words[1:], " "), &at.Goroutines, &bytes, &at.Files); err != nil {
		return
	}
	at.Seconds, at.RSS = time.Since(s.began).Seconds(), float64(bytes)/(1<<20)
	s.curves[p.name] = append(s.curves[p.name], at)
}

// follow notes the curve of a process that stays.
func (s *soak) follow(p *process) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.curves[p.name] = nil
	return p
}

// TestSoak lets workers come and go, a third of them killed, while a client goes on; what the processes that stay
// hold must not grow.
func TestSoak(t *testing.T) {
	length, come, every := 4*time.Second, 2, 100*time.Millisecond
	lifetime := func() time.Duration { return 500*time.Millisecond + rand.N(time.Second) }
	if text := os.Getenv("DREAMOOD_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		come, every = 6, 5*time.Second
		lifetime = func() time.Duration { return 10*time.Second + rand.N(30*time.Second) }
	} else {
		t.Parallel()
	}
	s := &soak{world: bareWorld(t, quick), began: time.Now(), curves: map[string][]sample{}, counts: map[string]int{}}
	s.part.Sample, s.part.Pace = every, 500*time.Millisecond
	s.world.told = s.told
	s.startNATS()
	s.look()
	s.follow(s.nats)
	stay := []*process{s.follow(s.start("worker")), s.follow(s.start("worker"))}
	steady := s.follow(s.start("steady"))

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var group sync.WaitGroup
	ends := map[syscall.Signal]int{}
	for range come {
		group.Go(func() {
			for ctx.Err() == nil {
				p := s.start("worker")
				end := syscall.SIGTERM
				if _ = wait(ctx, lifetime()); rand.IntN(3) == 0 {
					end = syscall.SIGKILL
				}
				p.signal(t, end)
				<-p.ended
				s.mu.Lock()
				ends[end]++
				s.mu.Unlock()
			}
		})
	}
	group.Wait()
	s.stopWell(steady)
	for _, p := range append(stay, s.nats) {
		if !p.alive() {
			t.Errorf("%s has died: %v\n%s", p.name, p.err, tail(p.log))
		}
	}
	s.verdict(ends)
}

// verdict compares the last third with the one before.
func (s *soak) verdict(ends map[syscall.Signal]int) {
	s.t.Helper()
	s.eventually("no message is left", s.noMessages)
	left, _, err := s.runs.List(s.t.Context(), runs.Filter{}, 0, "")
	if err != nil || len(left) > 0 {
		s.t.Errorf("%d runs are left, %v", len(left), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts["done"] == 0 || s.counts["done"] != s.counts["submitted"] {
		s.t.Errorf("%v; %s", s.counts, strings.Join(s.notes, "; "))
	}
	s.t.Logf("%v; workers ended: %v", s.counts, ends)
	long := os.Getenv("DREAMOOD_SOAK") != ""
	for name, curve := range s.curves {
		if len(curve) < 9 {
			s.t.Errorf("%s: %d samples", name, len(curve))
			continue
		}
		third := len(curve) / 3
		for _, m := range measures {
			before, after := median(curve[third:2*third], m.of), median(curve[2*third:], m.of)
			s.t.Logf("%s: %s %.1f, then %.1f", name, m.name, before, after)
			if long && after > before*m.factor+m.slack {
				s.t.Errorf("%s: %s grow from %.1f to %.1f", name, m.name, before, after)
			}
		}
	}
	if path := os.Getenv("DREAMOOD_SOAK_RECORD"); path != "" {
		s.write(path, ends)
	}
}

var measures = []struct {
	name          string
	of            func(sample) float64
	factor, slack float64
}{
	{"goroutines", func(s sample) float64 { return float64(s.Goroutines) }, 1.1, 10},
	{"MiB", func(s sample) float64 { return s.RSS }, 1.15, 8},
	{"files", func(s sample) float64 { return float64(s.Files) }, 1.1, 5},
}

func median(curve []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range curve {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (s *soak) names() []string { return slices.SortedFunc(maps.Keys(s.curves), cmp.Compare[string]) }
