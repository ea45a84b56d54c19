package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/runs"
)

// orders are what a worker process is to do until SIGTERM.
type orders struct {
	URL     string        `json:"url"`
	Slots   int           `json:"slots"`
	Hold    bool          `json:"hold,omitempty"`     // wait for a line of input before the first shard
	Fake    bool          `json:"fake,omitempty"`     // shards take the time that their run says
	AckWait time.Duration `json:"ack_wait,omitempty"` // of the runs
}

// serveOrders is the body of a worker process.
func serveOrders(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("orders: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	b, err := bus.Open(ctx, bus.Config{URL: o.URL})
	if err != nil {
		return err
	}
	defer b.Close()
	s, err := newRuns(ctx, b, runs.Config{AckWait: o.AckWait, MaxPending: 1 << 20})
	if err != nil {
		return err
	}
	s.Start()
	defer s.Close()
	fmt.Println("ready")
	if o.Hold {
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return fmt.Errorf("wait for the start: %w", err)
		}
	}
	work := empty
	if o.Fake {
		work = fake
	}
	return s.Serve(ctx, runs.Worker{Kind: kind, Concurrency: o.Slots, Work: work})
}

// gang is worker processes, killed at the end.
type gang struct{ members []*member }

type member struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	said    chan struct{} // closed when it has said its first line
	err     error         // if that was another one
	started time.Time
	ready   time.Time // when it had connected
	gone    bool
}

// start runs a worker process; ready waits for its connection.
func (g *gang) start(o orders) (*member, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m := &member{cmd: cmd, in: in, out: bufio.NewReader(out), said: make(chan struct{}), started: time.Now()}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g.members = append(g.members, m)
	go m.listen() // until it has said a line, or is dead
	return m, nil
}

// ready waits until all are connected.
func (g *gang) ready() error {
	for _, m := range g.members {
		if <-m.said; m.err != nil {
			return m.err
		}
	}
	return nil
}

// listen waits for the word of a process that it is ready.
func (m *member) listen() {
	line, err := m.out.ReadString('\n')
	m.ready = time.Now()
	if err != nil || line != "ready\n" {
		m.err = fmt.Errorf("worker process said %q: %v", line, err)
	}
	close(m.said)
}

// release lets those begin that hold.
func (g *gang) release() {
	for _, m := range g.members {
		_, _ = io.WriteString(m.in, "go\n") // a process that is gone is missed by the runs
	}
}

// end sends a signal and waits.
func (m *member) end(signal os.Signal) {
	if m.gone {
		return
	}
	m.gone = true
	_ = m.cmd.Process.Signal(signal)
	<-m.said
	_, _ = io.Copy(io.Discard, m.out)
	_ = m.cmd.Wait()
}

func (g *gang) kill() {
	for _, m := range g.members {
		m.end(os.Kill)
	}
}
