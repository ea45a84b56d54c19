package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	startWait = 60 * time.Second // until a process says where it listens
	stopWait  = 15 * time.Second // from SIGTERM to its end
	logTail   = 32 << 10         // bytes of a log that a failed test shows
)

// build compiles a program of this module, or of one that it needs, into dir.
func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	program := filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-o", program, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return program
}

// process is a program that runs until it is stopped.
type process struct {
	name     string
	cmd      *exec.Cmd
	out, log string // files of its standard output and standard error
	ended    chan error
	watched  bool
}

// launch starts a program in its own process. It is stopped, and its end checked, when the test ends.
func launch(t *testing.T, dir, name, program string, args ...string) *process {
	t.Helper()
	p := begin(t, dir, name, program, args...)
	p.watch()
	return p
}

// watch waits for its end. Nobody else may then: not the tracer of killAt.
func (p *process) watch() {
	p.watched = true
	go func() { p.ended <- p.cmd.Wait() }()
}

// begin is launch without watch.
func begin(t *testing.T, dir, name, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(program, args...), ended: make(chan error, 1)}
	open := func(suffix string) *os.File {
		f, err := os.CreateTemp(dir, name+"-*"+suffix)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	out, log := open(".out"), open(".log")
	defer out.Close()
	defer log.Close()
	p.out, p.log = out.Name(), log.Name()
	p.cmd.Stdout, p.cmd.Stderr = out, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start the %s: %v", name, err)
	}
	t.Cleanup(func() {
		if !p.watched && p.ended != nil {
			p.watch()
		}
		p.stop(t)
		if t.Failed() {
			t.Logf("log of the %s (process %d):\n%s", name, p.cmd.Process.Pid, tail(p.log))
		}
	})
	return p
}

// stop asks the process to end, and fails the test unless it does so well and in time. A process that was killed is
// stopped already.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.ended == nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop the %s: %v", p.name, err)
	}
	p.stopped(t)
}

// stopped waits for the end of a process that was asked to stop, and fails the test unless it ends well and in time.
func (p *process) stopped(t *testing.T) {
	t.Helper()
	began := time.Now()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("the %s ended with %v", p.name, err)
		}
		t.Logf("the %s stopped within %s", p.name, time.Since(began).Round(time.Millisecond))
	case <-time.After(stopWait):
		t.Errorf("the %s still runs %s after SIGTERM", p.name, stopWait)
		p.kill()
	}
	p.ended = nil
}

// kill ends the process as a crash does, without a word, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.ended
	p.ended = nil
}

// await asks ready until it answers, and fails when the process ends before that.
func await[T any](t *testing.T, p *process, ready func() (T, error)) T {
	t.Helper()
	var last error
	for deadline := time.Now().Add(startWait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		v, err := ready()
		if err == nil {
			return v
		}
		last = err
		select {
		case err := <-p.ended:
			p.ended = nil
			t.Fatalf("the %s ended before it was ready: %v", p.name, err)
		default:
		}
	}
	t.Fatalf("the %s is not ready after %s: %v", p.name, startWait, last)
	panic("unreachable")
}

// address is where a `serve --output json` listens, by the line that it prints first.
func (p *process) address(t *testing.T) string {
	t.Helper()
	return await(t, p, func() (string, error) {
		text, err := os.ReadFile(p.out)
		if err != nil {
			return "", err
		}
		line, _, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return "", errors.New("it has printed nothing")
		}
		var welcome struct{ Address string }
		if err := json.Unmarshal(line, &welcome); err != nil || welcome.Address == "" {
			return "", fmt.Errorf("it printed %q: %w", line, err)
		}
		return welcome.Address, nil
	})
}

func tail(file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-logTail):]
}
