package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one that may be killed. Its lines go to hear.
type process struct {
	role, name string
	cmd        *exec.Cmd
	in         io.WriteCloser
	log        string
	ended      chan struct{} // closed when it has ended and all its lines were heard
	err        error         // how it ended
}

var launches struct {
	sync.Mutex
	n int
}

// launch starts this program in a role. It is killed when the test ends.
func launch(t testing.TB, dir, role string, p part, hear func(p *process, line string), args ...string) *process {
	t.Helper()
	launches.Lock()
	launches.n++
	name := fmt.Sprintf("%s-%d", role, launches.n)
	launches.Unlock()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := &process{role: role, name: name, cmd: exec.Command(os.Args[0], args...), log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), "CHAOS_ROLE="+role, "CHAOS_PART="+string(data))
	log, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd.Stderr = log
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("start the %s: %v", role, err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			hear(c, lines.Text())
		}
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(c.log))
		}
	})
	return c
}

// kill ends it as a power failure does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // ended already
	<-p.ended
}

// goOn lets it go on from the point where it stands.
func (p *process) goOn() { _, _ = io.WriteString(p.in, "go\n") } // dead: nothing goes on

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// alive says that it has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// awaitEnd waits until it has ended by itself.
func (p *process) awaitEnd(t testing.TB) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go into its log
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second): // stopped, or in the middle of dying
		}
		text, _ := os.ReadFile(p.log)
		t.Fatalf("%s has not ended within %s:\n%s", p.name, patience, text)
		return nil
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
