package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	enginev1 "github.com/dreamood/dreamood/proto/dreamood/engine/v1"
)

// child is one process. Its fields below mu are the supervisor's, under the supervisor's lock.
type child struct {
	pid    int
	conn   *grpc.ClientConn
	client enginev1.EngineServiceClient
	stdin  io.Closer // closing it asks the process to end
	gone   chan struct{}
	errors *tail

	mu      sync.Mutex
	process *os.Process
	why     string // it was killed, or ended; "" while it runs
	seen    time.Time
	under   int // work items under way, for the watchdog

	active   int // callers
	items    int // pictures rendered
	retiring string
	stopping bool
	models   map[string]bool
}

// start runs the executable and waits until it serves.
func start(ctx context.Context, cfg Config) (*child, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
	cmd.Env = append(os.Environ(), cfg.Env...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = dieWithParent()
	c := &child{gone: make(chan struct{}), errors: &tail{to: cfg.Output}, models: map[string]bool{}, seen: time.Now()}
	cmd.Stdout, cmd.Stderr = c.errors, c.errors
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		ours.Close()
		return nil, err
	}
	dial := make(chan net.Conn, 1)
	dial <- ours
	c.conn, err = grpc.NewClient("passthrough:///engine", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case one := <-dial:
				return one, nil
			default:
				return nil, errors.New("the engine process is gone")
			}
		}))
	if err != nil {
		ours.Close()
		return nil, err
	}
	c.client = enginev1.NewEngineServiceClient(c.conn)
	if err := c.spawn(cmd); err != nil {
		ours.Close()
		c.conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	if _, err := c.client.Hello(ctx, &enginev1.HelloRequest{}); err != nil {
		c.kill(fmt.Sprintf("did not serve within %s of its start", cfg.StartTimeout))
		<-c.gone
		return nil, errors.New(c.ended())
	}
	select {
	case <-dial: // never taken
		ours.Close()
	default:
	}
	return c, nil
}

// spawn starts the process and waits for its end, on one thread: the parent's death signal is that of the thread that
// started the child.
func (c *child) spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		kills := memoryKills()
		err := cmd.Start()
		if err == nil {
			c.pid, c.process = cmd.Process.Pid, cmd.Process
		}
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		c.mu.Lock()
		if c.why == "" {
			c.why = exitOf(cmd.ProcessState, err, memoryKills() > kills) + c.errors.last()
		}
		c.mu.Unlock()
		close(c.gone) // first, so that whoever sees a broken connection knows why
		c.conn.Close()
	}()
	return <-started
}

// exitOf says how a process ended; starved, whether the kernel has killed for want of memory since it started.
func exitOf(state *os.ProcessState, err error, starved bool) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		switch {
		case status.Signal() == syscall.SIGKILL && starved:
			return "was killed by the kernel: out of memory" // runs wait longer after these words
		case status.Signal() == syscall.SIGKILL:
			return "was killed (SIGKILL)"
		}
		return fmt.Sprintf("died of signal %d (%s)", int(status.Signal()), status.Signal())
	}
	if err != nil {
		return "ended: " + err.Error()
	}
	return "ended by itself"
}

// ended says how it ended, or why it is being killed; "" while it runs.
func (c *child) ended() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// alive says that it runs and is not being killed.
func (c *child) alive() bool { return c.ended() == "" }

// kill ends the process now.
func (c *child) kill(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == "" {
		c.why = why
		_ = c.process.Kill() // it may have ended by itself
	}
}

// stop asks the process to end, and ends it if it does not within a while.
func (c *child) stop(within time.Duration) {
	c.stdin.Close()
	select {
	case <-c.gone:
	case <-time.After(within):
		c.kill("did not end when it was asked to")
		<-c.gone
	}
}

// begin and end enclose a work item; touch is a sign of life.
func (c *child) begin() {
	c.mu.Lock()
	c.under++
	c.seen = time.Now()
	c.mu.Unlock()
}

func (c *child) end() {
	c.mu.Lock()
	c.under--
	c.seen = time.Now()
	c.mu.Unlock()
}

func (c *child) touch() {
	c.mu.Lock()
	c.seen = time.Now()
	c.mu.Unlock()
}

// watch kills a process that has work and shows no progress for so long. It returns when the process is gone.
func (c *child) watch(stall time.Duration) {
	tick := time.NewTicker(max(stall/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		hangs := c.under > 0 && time.Since(c.seen) > stall
		c.mu.Unlock()
		if hangs {
			c.kill(fmt.Sprintf("showed no progress for %s and was killed", stall))
		}
	}
}

// socketPair makes two ends of a socket that nobody else can reach.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock() // no process that is started meanwhile inherits them
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socket for the engine process: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "engine"), os.NewFile(uintptr(fds[1]), "engine")
	defer ours.Close() // net.FileConn has a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socket for the engine process: %w", err)
	}
	return conn, theirs, nil
}

// tail passes on what a process prints, and keeps the end of it.
type tail struct {
	to   io.Writer
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	if t.to != nil {
		_, _ = t.to.Write(p) // a broken standard error does not end the engine
	}
	return len(p), nil
}

// last is the line that says most: the first of a panic or a fatal error, else the last.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := ""
	for l := range strings.Lines(string(t.kept)) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") || strings.HasPrefix(l, "SIG") {
			line = l
			break
		}
		if l != "" {
			line = l
		}
	}
	if line == "" {
		return ""
	}
	return ": " + line
}
