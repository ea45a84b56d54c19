package chaos

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/runs"
)

// TestUndisturbed is the world without a kill: what the others are compared with, and a test of the questions.
func TestUndisturbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick)
	w.start("worker")
	w.start("worker")
	w.finish(w.start("client"))
	v := w.judge(script)
	if problems := v.problems(); len(problems) > 0 {
		t.Errorf("%s", strings.Join(problems, "\n"))
	}
	t.Logf("%d of %d revisions audited", v.Seen, v.Revisions)
}

// victims of a kill: the process that stands at the point, the NATS server while it stands there, or both.
var victims = []string{"process", "server", "both"}

// killing is one world with a kill at a point. Seeds above 0 add kills at points drawn by chance.
type killing struct {
	Point, Victim string
	Seed          int
}

func (k killing) name() string { return fmt.Sprintf("%s/%s/%d", k.Point, k.Victim, k.Seed) }

// few is the short version: one kill between each two writes that others depend on, each victim at least once.
var few = []killing{
	{"submit.created", "process", 0}, {"shard.worked", "both", 0}, {"shard.committed", "server", 0},
	{"finish.committed", "process", 0}, {"cancel.written", "both", 0},
}

// TestKills kills at every point.
func TestKills(t *testing.T) {
	t.Parallel()
	table := few
	if full() {
		table = nil
		for seed := range seeds() {
			for _, point := range runs.Points() {
				for _, victim := range victims {
					table = append(table, killing{point, victim, seed})
				}
			}
		}
	}
	for _, k := range table {
		t.Run(k.name(), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			records.begin(k)
			s := &stage{world: newWorld(t, quick), killing: k, plays: script}
			h := fnv.New64a()
			_, _ = h.Write([]byte(k.name()))
			s.dice = rand.New(rand.NewPCG(h.Sum64(), uint64(k.Seed)))
			s.play()
			v := s.judge(s.plays)
			if problems := v.problems(); len(problems) > 0 {
				t.Errorf("after kills of %v:\n%s", s.struck, strings.Join(problems, "\n"))
			}
			records.killing(s, v, time.Since(began))
		})
	}
}

// stage is a world in which a killing is played.
type stage struct {
	*world
	killing
	plays  []play
	dice   *rand.Rand
	client *process
	struck []strike // the kills so far
	deaths int      // besides, by work that kills its process
	hit    bool     // at the point that this is about
}

// often are the points that one process comes to many times: kills by chance find them.
var often = []string{
	"submit.reserved", "submit.created", "submit.announced", "submit.published", "message.received", "message.acked", "shard.claimed",
	"shard.worked", "shard.committed", "shard.announced", "finish.claimed", "finish.worked", "finish.committed", "finish.announced",
	"progress.written",
}

// play lets the client have its script played and strikes whoever comes to the point.
func (s *stage) play() {
	s.t.Helper()
	if provoke := provocations[s.Point]; provoke != nil {
		provoke(s)
	} else {
		s.client = s.start("client", s.Point)
		s.start("worker", s.Point)
	}
	second := false // worker
	for timeout := time.After(patience); ; {
		select {
		case h := <-s.hits:
			if s.hit && len(s.struck) > s.Seed {
				h.who.goOn()
				continue
			}
			s.strike(h)
			if !second {
				second = true
				s.start("worker", s.chance()...)
			}
		case <-s.client.ended:
			if s.client.err != nil {
				s.t.Fatalf("the client: %v\n%s", s.client.err, tail(s.client.log))
			}
			if s.hit {
				return
			}
			time.Sleep(10 * time.Millisecond) // a worker is still on its way to the point
		case <-timeout:
			s.t.Fatalf("not over within %s: came to %s: %v, killed %v\n%s", patience, s.Point, s.hit, s.struck, s.state())
		}
	}
}

// chance is where the next process stands: nowhere, or with further seeds at a point by chance.
func (s *stage) chance() []string {
	if s.Seed == 0 {
		return nil
	}
	return []string{often[s.dice.IntN(len(often))]}
}

// strike kills, and starts again what it killed.
func (s *stage) strike(h hit) {
	s.t.Helper()
	victim := s.Victim
	switch {
	case h.point == s.Point && !s.hit:
		s.hit = true
	case !s.hit: // on the way to the point
		victim = "process"
	default:
		victim = victims[s.dice.IntN(len(victims))]
	}
	s.struck = append(s.struck, strike{h.who.role, h.point, victim})
	if victim != "process" {
		s.nats.kill()
	}
	if victim != "server" {
		h.who.kill()
		if victim == "both" {
			s.startNATS()
		}
		next := s.start(h.who.role, s.chance()...)
		if h.who == s.client {
			s.client = next
		}
		return
	}
	if s.dice.IntN(2) == 0 { // it meets a server that is not there
		h.who.goOn()
		time.Sleep(time.Duration(s.dice.IntN(int(500 * time.Millisecond))))
		s.startNATS()
		return
	}
	s.startNATS()
	h.who.goOn()
}

// provocations are for the points that the script alone does not lead to.
var provocations = map[string]func(*stage){
	"submit.withdrawn":    fillQueue,
	"shard.released":      func(s *stage) { tellToStop(s, "linger", "working linger") },
	"finish.released":     func(s *stage) { tellToStop(s, "linger-finish", "finishing linger-finish") },
	"plan.released":       func(s *stage) { tellToStop(s, "linger-plan", "planning linger-plan") },
	"plan.exhausted":      func(s *stage) { poison(s, "die-plan") },
	"shard.exhausted":     func(s *stage) { poison(s, "die") },
	"finish.exhausted":    func(s *stage) { poison(s, "die-finish") },
	"reconcile.published": loseMessages,
	"watch.repaired":      loseEvent,
}

// with adds a play to the script.
func (s *stage) with(p play) {
	s.plays = append(slices.Clone(s.plays), p)
	s.part.Script = s.plays
}
