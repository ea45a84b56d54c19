package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
)

// Config of a supervisor. The zero value runs this executable with the argument "engine".
type Config struct {
	Command  []string
	Env      []string // beside this process's
	Output   io.Writer
	Pipeline diffusion.Config // of the models; Noise stays behind

	StartTimeout time.Duration // until the process serves; default 30 s
	LoadTimeout  time.Duration // of a model; default 10 min
	Stall        time.Duration // without progress before a process with work is killed; default 2 min
	CancelWait   time.Duration // for the native run to return after a cancel; default 30 s
	Backoff      time.Duration // before a second start after a crash; doubles; default 500 ms
	MaxBackoff   time.Duration // default 30 s

	MaxPictures int   // after which the process is replaced; 0: never
	MaxBytes    int64 // of resident memory, after which it is replaced; 0: any
	Replace     bool  // the process when a model is closed: the only way to have GPU memory back
	Log         *zap.Logger
}

func (c Config) withDefaults() (Config, error) {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.StartTimeout, 30*time.Second)
	set(&c.LoadTimeout, 10*time.Minute)
	set(&c.Stall, 2*time.Minute)
	set(&c.CancelWait, 30*time.Second)
	set(&c.Backoff, 500*time.Millisecond)
	set(&c.MaxBackoff, 30*time.Second)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if len(c.Command) == 0 {
		program, err := executable()
		if err != nil {
			return c, err
		}
		c.Command = []string{program, "engine"}
	}
	return c, nil
}

// poison is how many processes may end under the same work until it is refused.
const poison = 3

// most work items at once; a suspect takes all of it.
const most = 1 << 20

// Supervisor keeps one engine process running while there is work, and gives it work.
type Supervisor struct {
	cfg  Config
	room *semaphore.Weighted // work that was under way at a crash runs alone, so that it ends nobody else's again

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change below
	current  *child
	starting bool
	crashes  int       // in a row
	failures int       // crashes in all
	earliest time.Time // of the next start
	closed   bool
	starts   int
	suspects map[[sha256.Size]byte]int // crashes under work
	watching sync.WaitGroup
}

// New makes a supervisor; the process is started when it is needed.
func New(cfg Config) (*Supervisor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return &Supervisor{cfg: cfg, room: semaphore.NewWeighted(most), changed: make(chan struct{}), suspects: map[[sha256.Size]byte]int{}}, nil
}

// change tells all who wait; s.mu is held.
func (s *Supervisor) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// acquire returns the process that takes work, and starts one where there is none. The caller releases it.
func (s *Supervisor) acquire(ctx context.Context) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return nil, ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := s.current
		switch {
		case c != nil && c.alive() && c.retiring == "":
			c.active++
			return c, nil
		case c != nil && !c.alive():
			s.current = nil
			continue
		case c == nil && !s.starting:
			if err := s.start(ctx); err != nil {
				return nil, err
			}
			continue
		}
		wait := s.changed
		s.mu.Unlock()
		select { // another caller starts it, or the one before it still works
		case <-wait:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// start starts a process, after the back-off; s.mu is held, but for the waiting.
func (s *Supervisor) start(ctx context.Context) error {
	s.starting = true
	delay := time.Until(s.earliest)
	s.mu.Unlock()
	var c *child
	err := sleep(ctx, delay)
	if err == nil {
		c, err = start(ctx, s.cfg)
	}
	s.mu.Lock()
	s.starting = false
	defer s.change()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.crashed()
		s.cfg.Log.Error("engine process does not start", zap.Error(err), zap.Time("not_before", s.earliest))
		return &CrashError{Why: err.Error()}
	}
	s.starts++
	s.current = c
	s.watching.Add(2)
	go func() { defer s.watching.Done(); c.watch(s.cfg.Stall) }()
	go func() { defer s.watching.Done(); s.bury(c) }()
	s.cfg.Log.Info("engine process started", zap.Int("pid", c.pid), zap.Int("start", s.starts))
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crashed counts a crash and sets the time of the next start; s.mu is held.
func (s *Supervisor) crashed() {
	s.crashes++
	s.failures++
	wait := s.cfg.MaxBackoff
	if s.crashes < 16 {
		wait = min(s.cfg.Backoff<<(s.crashes-1), s.cfg.MaxBackoff)
	}
	s.earliest = time.Now().Add(wait + time.Duration(rand.Float64()*float64(wait)/4))
}

// bury waits for the end of a process and takes note of it.
func (s *Supervisor) bury(c *child) {
	<-c.gone
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == c {
		s.current = nil
	}
	if c.stopping {
		s.cfg.Log.Info("engine process stopped", zap.Int("pid", c.pid), zap.String("why", c.retiring))
	} else {
		s.crashed()
		s.cfg.Log.Error("engine process crashed", zap.Int("pid", c.pid), zap.String("how", c.ended()), zap.Int("in_a_row", s.crashes), zap.Time("not_before", s.earliest))
	}
	s.change()
}

// release gives a process back. One that has done enough, or is too large, takes no more work, and ends with the last
// of what it has: the next one starts when it has gone, since memory may not hold two.
func (s *Supervisor) release(c *child, pictures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.active--
	c.items += pictures
	if pictures > 0 {
		s.crashes = 0
	}
	if c.retiring == "" && c.alive() {
		switch size := resident(c.pid); {
		case s.cfg.MaxPictures > 0 && c.items >= s.cfg.MaxPictures:
			c.retiring = fmt.Sprintf("it has rendered %d pictures", c.items)
		case s.cfg.MaxBytes > 0 && size > s.cfg.MaxBytes:
			c.retiring = fmt.Sprintf("it has %d MiB", size>>20)
		}
	}
	s.retire(c)
}

// retire stops a process that is to go and has no work; s.mu is held.
func (s *Supervisor) retire(c *child) {
	if c.retiring == "" || c.active > 0 || c.stopping {
		return
	}
	c.stopping = true
	s.watching.Go(func() { c.stop(s.cfg.CancelWait) }) // bury takes note
}

// accuse counts a crash under work, and says how many there were.
func (s *Supervisor) accuse(key [sha256.Size]byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.suspects) >= 10_000 { // forgets one of them
		for other := range s.suspects {
			delete(s.suspects, other)
			break
		}
	}
	s.suspects[key]++
	return s.suspects[key]
}

func (s *Supervisor) acquit(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.suspects, key)
}

// enter waits until work may run: with others, or alone where a process has ended under it before.
func (s *Supervisor) enter(ctx context.Context, key [sha256.Size]byte) (leave func(), err error) {
	s.mu.Lock()
	times := s.suspects[key]
	s.mu.Unlock()
	if times >= poison {
		return nil, fault.New(fault.FailedPrecondition, "this work has ended the engine process %d times, the last %d alone, and is not tried again; the log says how the process ended", times, times-1)
	}
	weight := int64(1)
	if times > 0 {
		weight = most
	}
	if err := s.room.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	return func() { s.room.Release(weight) }, nil
}

// Starts is how many processes were started.
func (s *Supervisor) Starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// Counts are the processes that were started, and those that crashed, hung or could not be started.
func (s *Supervisor) Counts() (starts, crashes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts, s.failures
}

// PID is that of the process; 0 while there is none.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || !s.current.alive() {
		return 0
	}
	return s.current.pid
}

// Close ends the process. Work under way ends with an error.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	s.closed = true
	c := s.current
	s.change()
	if c != nil && !c.stopping {
		c.retiring, c.stopping = "the engine is closed", true
		s.watching.Go(func() { c.stop(s.cfg.CancelWait) })
	}
	starting := s.starting
	s.mu.Unlock()
	if starting { // what a caller is starting ends with its context, or is found here
		return s.closeStarted()
	}
	s.watching.Wait()
	return nil
}

// closeStarted waits for a start under way and ends what came of it.
func (s *Supervisor) closeStarted() error {
	for {
		s.mu.Lock()
		wait, starting := s.changed, s.starting
		s.mu.Unlock()
		if !starting {
			return s.Close()
		}
		select {
		case <-wait:
		case <-time.After(s.cfg.StartTimeout + s.cfg.MaxBackoff*2):
			return errors.New("engine: a process that was being started does not end")
		}
	}
}
