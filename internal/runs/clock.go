package runs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// drift bounds how much faster or slower this process's monotonic clock goes than the server's: two crystals.
const drift = 200e-6

// clockOff is by how much the machine's time of day may differ from the server's before the log says so.
const clockOff = 2 * time.Second

// clock is the time of the NATS server. All processes of a mesh stamp runs and judge their limits by it, so that what one
// machine takes for the time of day does not matter. It is taken from the server's answers and goes on by the monotonic
// clock in between, which does not jump; its error is at most half of the time from a question to its answer, and drift
// times the age of that answer. In a cluster it is the time of the node that leads the stream of events.
type clock struct {
	mu      sync.Mutex
	server  time.Time     // the server's time at asked
	asked   time.Time     // with a monotonic reading: half-way between question and answer; zero before the first
	bound   time.Duration // of the error at asked
	differs bool          // the log has said that the machine's time is another
}

// now is the server's time, in UTC as it comes back from JSON; false before the first answer.
func (c *clock) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() {
		return time.Time{}, false
	}
	return c.server.Add(time.Since(c.asked)).UTC().Round(0), true
}

// learn takes over an answer with the server's time, unless the one before is at least as good and agrees with it. They
// disagree when the server's time was set, another server answers, or this machine slept, with its monotonic clock.
func (c *clock) learn(server, sent, got time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bound := got.Sub(sent) / 2
	asked := sent.Add(bound)
	if !c.asked.IsZero() {
		age := asked.Sub(c.asked)
		old := c.bound + time.Duration(float64(age)*drift)
		if off := server.Sub(c.server.Add(age)); old <= bound && off.Abs() <= old+bound {
			return
		}
	}
	c.server, c.asked, c.bound = server.Round(0), asked, bound
}

// serverTime is the server's time, or the machine's before the server has said its own.
func (s *Service) serverTime() time.Time {
	if now, ok := s.clock.now(); ok {
		return now
	}
	return s.machine().UTC().Round(0)
}

// askTime asks the server for its time, and tells when the machine has another.
func (s *Service) askTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	sent := time.Now()
	info, err := s.events.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask the NATS server for its time: %w", err)
	}
	if info.TimeStamp.IsZero() {
		return nil
	}
	s.clock.learn(info.TimeStamp, sent, time.Now())
	now, _ := s.clock.now()
	off := s.machine().Sub(now).Round(time.Millisecond)
	s.clock.mu.Lock()
	told := s.clock.differs
	s.clock.differs = off.Abs() > clockOff
	s.clock.mu.Unlock()
	if off.Abs() > clockOff && !told {
		s.log.Warn("this machine's time is not the NATS server's: runs go by the server's, logs and traces of this process by its own",
			zap.Duration("ahead", off))
	}
	return nil
}
