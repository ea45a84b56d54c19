package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// part is what a process is told, as JSON in CHAOS_PART.
type part struct {
	URL    string
	Blobs  string            // folder of the blobs
	Runs   runs.Config       // the same in every process
	Script []play            // of a client
	Known  map[string]string // ids that a client before it was told, by name

	Stand    []string      // the points where it stands still, one after the other
	Lingered bool          // see summing
	Skew     time.Duration // its clock is wrong by up to so much, and jumps
	Slots    int           // shards at a time
	Sample   time.Duration // how often it says what it holds; 0: never
	Pace     time.Duration // of a steady client: a run each
}

// act is the life of a process that is not the test.
func act(role string) error {
	orders := make(chan struct{}, 8)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			orders <- struct{}{}
		}
		os.Exit(3) // the test has ended
	}()
	var p part
	if err := json.Unmarshal([]byte(os.Getenv("CHAOS_PART")), &p); err != nil {
		return fmt.Errorf("CHAOS_PART: %w", err)
	}
	m := &mouth{stand: p.Stand, orders: orders}
	if p.Sample > 0 {
		go m.samples(p.Sample)
	}
	if role == "nats" {
		return serveNATS(os.Args[1:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(os.Stderr), zap.InfoLevel))
	b, err := bus.Open(ctx, bus.Config{URL: p.URL, Name: role, ConnectWait: time.Minute, Log: log})
	if err != nil {
		return err
	}
	defer b.Close()
	deps := runs.Deps{JS: b.JetStream(), Log: log, Point: m.at, Clock: p.clock}
	var s *runs.Service
	err = again(ctx, func() error {
		s, err = runs.New(ctx, p.Runs, deps)
		return err
	})
	if err != nil {
		return err
	}
	defer s.Close()
	s.Start()
	if role == "client" {
		return (&client{runs: s, say: m.say, known: p.Known, ids: map[string]string{}}).play(ctx, p.Script)
	}
	blobs, err := artifact.NewFiles(p.Blobs)
	if err != nil {
		return err
	}
	if role == "steady" {
		return (&steady{client{runs: s, say: m.say, ids: map[string]string{}}}).play(ctx, p.Pace)
	}
	sum := summing{blobs: blobs, say: m.say, lingered: p.Lingered, failed: &sync.Map{}}
	m.say("ready")
	return again(ctx, func() error {
		return s.Serve(ctx, runs.Worker{Kind: kind, Concurrency: p.Slots, Plan: sum.plan, Work: sum.work, Finish: sum.finish})
	})
}

// clock jumps every 300 ms: from right to early to late.
func (p part) clock() time.Time {
	now := time.Now()
	return now.Add(p.Skew * time.Duration((now.UnixMilli()/300)%3-1))
}

// serveNATS is the main function of github.com/nats-io/nats-server.
func serveNATS(args []string) error {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	options, err := server.ConfigureOptions(flags, args, nil, nil, nil)
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}

// mouth is how a process talks to the test: lines out, and a line in to go on after it stood still.
type mouth struct {
	mu     sync.Mutex
	stand  []string
	orders <-chan struct{}
}

func (m *mouth) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

// at stands still at the point that was ordered, until the test sends a line or the process is killed.
func (m *mouth) at(point string) {
	m.mu.Lock()
	here := len(m.stand) > 0 && m.stand[0] == point
	if here {
		m.stand = m.stand[1:]
	}
	m.mu.Unlock()
	if here {
		m.say("at %s", point)
		<-m.orders
	}
}

// client submits the script and follows it, as one that may die at any point: it does the same again.
type client struct {
	runs  *runs.Service
	say   func(format string, args ...any)
	known map[string]string
	ids   map[string]string
}

func (c *client) play(ctx context.Context, script []play) error {
	steps := []struct {
		name  string
		wants func(play) bool
		do    func(context.Context, play) error
	}{
		{"submit", func(p play) bool { return p.Retry == "" }, c.submit},
		{"cancel", func(p play) bool { return p.Cancel }, c.cancel},
		{"pause", func(p play) bool { return p.Pause }, c.pause},
		{"watch", func(p play) bool { return p.Retry == "" }, c.watch},
		{"retry", func(p play) bool { return p.Retry != "" }, c.retry},
		{"watch", func(p play) bool { return p.Retry != "" }, c.watch},
		{"delete", func(p play) bool { return p.Delete }, c.remove},
	}
	for _, step := range steps {
		for _, p := range script {
			if !step.wants(p) {
				continue
			}
			if err := again(ctx, func() error { return step.do(ctx, p) }); err != nil {
				return fmt.Errorf("%s %s: %w", step.name, p.Name, err)
			}
		}
	}
	c.say("finished")
	return nil
}

func (c *client) submit(ctx context.Context, p play) error {
	if id := c.known[p.Name]; id != "" && p.Delete { // submitted again it would be a new run
		c.ids[p.Name] = id
		return nil
	}
	var after []string
	if p.After != "" {
		after = []string{c.ids[p.After]}
	}
	run, _, err := c.runs.Submit(ctx, p.spec(after...))
	if err != nil {
		return err
	}
	c.ids[p.Name] = run.ID
	c.say("accepted %s %s", p.Name, run.ID)
	return nil
}

func (c *client) watch(ctx context.Context, p play) error {
	err := c.runs.Watch(ctx, c.ids[p.Name], 0, func(runs.Event) error { return nil })
	if p.Delete && errors.Is(err, runs.ErrNotFound) {
		return nil
	}
	return err
}

func (c *client) retry(ctx context.Context, p play) error {
	run, err := c.runs.Retry(ctx, c.ids[p.Retry])
	if err != nil {
		return err
	}
	c.ids[p.Name] = run.ID
	c.say("accepted %s %s", p.Name, run.ID)
	return nil
}

func (c *client) remove(ctx context.Context, p play) error {
	if err := c.runs.Delete(ctx, c.ids[p.Name]); !errors.Is(err, runs.ErrNotFound) {
		return err
	}
	return nil
}

// begun waits until a worker has begun.
func (c *client) begun(ctx context.Context, id string) error {
	begun := errors.New("begun")
	err := c.runs.Watch(ctx, id, 0, func(e runs.Event) error {
		if e.Run.State != runs.Pending {
			return begun
		}
		return nil
	})
	if errors.Is(err, begun) {
		return nil
	}
	return err
}

func (c *client) pause(ctx context.Context, p play) error {
	if err := c.begun(ctx, c.ids[p.Name]); err != nil {
		return err
	}
	_, err := c.runs.Pause(ctx, c.ids[p.Name])
	if errors.Is(err, runs.ErrState) { // a client before this one has done it all, and the run has ended
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.runs.Resume(ctx, c.ids[p.Name])
	return err
}

func (c *client) cancel(ctx context.Context, p play) error {
	if err := c.begun(ctx, c.ids[p.Name]); err != nil {
		return err
	}
	run, err := c.runs.Cancel(ctx, c.ids[p.Name])
	if err == nil && run.State != runs.Cancelled {
		return fmt.Errorf("after Cancel it is %s", run.State)
	}
	return err
}

// again repeats what a client would repeat: everything but mistakes of its own, for as long as a patient one waits.
func again(ctx context.Context, f func() error) error {
	for patience := time.Now().Add(2 * time.Minute); ; {
		err := f()
		if err == nil || errors.Is(err, runs.ErrInvalid) || errors.Is(err, runs.ErrRequestMismatch) || time.Now().After(patience) {
			return err
		}
		fmt.Fprintf(os.Stderr, "again: %v\n", err)
		if stopped := wait(ctx, 100*time.Millisecond); stopped != nil {
			return err
		}
	}
}
