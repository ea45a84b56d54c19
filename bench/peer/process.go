// Package peer talks to the other side of a comparison: a process that takes a JSON line and answers with one.
package peer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Process is one side of a comparison: it takes a JSON line and answers with one.
type Process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// Start runs a side; env is added to this process's.
func Start(name string, env []string, command string, args ...string) (*Process, error) {
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	return &Process{name: name, cmd: cmd, in: in, out: lines}, nil
}

// Ask sends a question and reads the answer into answer.
func (p *Process) Ask(question, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if !p.out.Scan() {
		return fmt.Errorf("%s ended without an answer: %v", p.name, p.out.Err())
	}
	if err := json.Unmarshal(p.out.Bytes(), answer); err != nil {
		return fmt.Errorf("%s answered %.200q: %w", p.name, p.out.Text(), err)
	}
	return nil
}

// Stop ends a side.
func (p *Process) Stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}
