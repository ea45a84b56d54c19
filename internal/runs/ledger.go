package runs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// knownRuns is how many runs a ledger remembers that nobody is changing.
const knownRuns = 32

// distrusted is for how many changes a document is read first after another process was found to have changed it.
const distrusted = 8

// ledger writes the changes that this process makes to runs. Those to one run that come while another is being written
// wait and are then written together, by one compare-and-set: a process with many slots does not compete with itself.
// It remembers each document as it was last written or read, so that most changes are written without reading first. A
// memory that is out of date is noticed by the compare-and-set; what changes nothing, and so compares nothing, is
// decided again on what is read.
type ledger struct {
	s     *Service
	mu    sync.Mutex
	pages map[string]*page // by run
}

// page is the changes to one run.
type page struct {
	known    *Run     // nil: to be read; nobody changes what it points to
	distrust int      // changes to come that read first, because memory was out of date
	busy     bool     // somebody writes
	waiting  []*entry // for the writer
}

// entry is one change.
type entry struct {
	ctx   context.Context
	f     func(*Run) error
	run   Run
	err   error
	turn  chan bool // true: write what waits; false: it is written
	wrote bool
}

// change applies f to a run by compare-and-set, again and again until nobody was in between. An error of f ends it;
// with errKeep the run is returned as it is. f may be called several times, also after its change was written; it may
// assign to the fields of the run and of its shards. The run that is returned may have other changes in it, too.
func (l *ledger) change(ctx context.Context, id string, f func(*Run) error) (Run, error) {
	e := &entry{ctx: ctx, f: f, turn: make(chan bool, 1)}
	p := l.join(id, e)
	if writer := <-e.turn; writer {
		batch := l.take(p)
		ended := l.settle(id, p, batch)
		l.leave(id, p)
		for _, other := range batch {
			if other != e {
				other.turn <- false
			}
		}
		if ended != nil {
			l.s.ended(ctx, *ended)
		}
	}
	if errors.Is(e.err, errKeep) {
		return e.run, nil
	}
	return e.run, e.err
}

// join puts a change on the page of its run. The first one there is the writer.
func (l *ledger) join(id string, e *entry) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pages[id]
	if p == nil {
		l.forget(knownRuns - 1)
		p = &page{}
		l.pages[id] = p
	}
	p.waiting = append(p.waiting, e)
	if !p.busy {
		p.busy = true
		e.turn <- true
	}
	return p
}

// take returns the changes that wait.
func (l *ledger) take(p *page) []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := p.waiting
	p.waiting = nil
	return batch
}

// leave makes the next one that waits the writer.
func (l *ledger) leave(id string, p *page) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p.waiting) > 0 {
		p.waiting[0].turn <- true
		return
	}
	p.busy = false
	if p.known == nil || p.known.State.Terminal() {
		delete(l.pages, id)
	}
}

// forget drops idle pages until so many are left.
func (l *ledger) forget(most int) {
	for id, p := range l.pages {
		if len(l.pages) <= most {
			return
		}
		if !p.busy {
			delete(l.pages, id)
		}
	}
}

// settle decides a batch of changes and writes them. It returns the run when they ended it.
func (l *ledger) settle(id string, p *page, batch []*entry) (ended *Run) {
	ctx := batch[0].ctx
	if len(batch) > 1 { // one that gives up does not take the others with it
		ctx = context.WithoutCancel(ctx)
	}
	known := l.remembered(p)
	for {
		read := known == nil
		if read {
			run, err := l.s.load(ctx, id)
			if err != nil {
				l.fail(p, batch, err)
				return nil
			}
			known = &run
		}
		next, sure := apply(*known, batch)
		if !sure && !read {
			known = nil
			continue
		}
		if next == nil {
			l.done(p, batch, *known, *known)
			return nil
		}
		next.Updated = l.s.now()
		err := l.s.write(ctx, next)
		if err == nil {
			l.s.logState(*next, known.State)
			l.done(p, batch, *known, *next)
			if next.State.Terminal() && !known.State.Terminal() {
				return next
			}
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			l.fail(p, batch, fmt.Errorf("write run %s: %w", id, err))
			return nil
		}
		if known = nil; read {
			sleep(ctx, time.Duration(rand.Int64N(int64(5*time.Millisecond))))
		} else { // no race, only an old memory: others are at work on this run
			p.distrust = distrusted
		}
	}
}

// apply makes the changes one after another, each on what the ones before left. next is nil when there is nothing to
// write; sure says that all of them changed something, so that the compare-and-set judges all of them.
func apply(run Run, batch []*entry) (next *Run, sure bool) {
	sure = true
	for _, e := range batch {
		if e.wrote, e.err = false, e.ctx.Err(); e.err != nil {
			continue
		}
		draft := run
		draft.Shards = slices.Clone(run.Shards)
		if e.err = e.f(&draft); e.err != nil {
			sure = false
			continue
		}
		draft.sum()
		e.wrote, run, next = true, draft, &draft
	}
	return next, sure
}

// done gives every change its run: as written, or as it was for those that changed nothing.
func (l *ledger) done(p *page, batch []*entry, before, after Run) {
	for _, e := range batch {
		if e.run = before; e.wrote || errors.Is(e.err, errKeep) {
			e.run = after
		}
	}
	l.remember(p, &after)
}

// fail gives every change the error of the whole batch.
func (l *ledger) fail(p *page, batch []*entry, err error) {
	for _, e := range batch {
		e.err = err
	}
	l.remember(p, nil)
}

// remembered is what a writer may start from.
func (l *ledger) remembered(p *page) *Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.distrust > 0 {
		p.distrust--
		return nil
	}
	return p.known
}

func (l *ledger) remember(p *page, run *Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.known = run
}

// look returns a run as a delivery may see it: from memory when it was RUNNING when this process last saw it and is not
// older than a revision, otherwise from the bucket. What memory shows of finished work holds; more may be finished by
// now.
func (s *Service) look(ctx context.Context, id string, revision uint64) (Run, error) {
	if known := s.ledger.running(id); known != nil && known.revision >= revision {
		return *known, nil
	}
	return s.load(ctx, id)
}

func (l *ledger) running(id string) *Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.pages[id]; p != nil && p.known != nil && p.known.State == Running {
		return p.known
	}
	return nil
}
