package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// peer is the running Python program; it keeps its model from batch to batch.
type peer struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	about struct{ Torch, Device string }
}

func startPeer(s settings) (*peer, error) {
	cmd := exec.Command(s.python, "bench/generator-gpu/peer.py", "--model", filepath.Join(s.model, "torch"), "--dtype", s.dtype,
		"--steps", fmt.Sprint(s.steps), "--guidance", fmt.Sprint(s.guidance), "--repeat", fmt.Sprint(s.repeat), "--compile", s.compile)
	cmd.Stderr = os.Stderr
	p := &peer{cmd: cmd}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.read(&p.about); err != nil {
		p.close()
		return nil, fmt.Errorf("peer.py: %w", err)
	}
	return p, nil
}

// measure returns the seconds of every repetition.
func (p *peer) measure(batch int) ([]float64, error) {
	if _, err := fmt.Fprintln(p.in, batch); err != nil {
		return nil, err
	}
	var answer struct {
		Seconds []float64
		Error   string
	}
	if err := p.read(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" || len(answer.Seconds) == 0 {
		return nil, errors.New(answer.Error)
	}
	return answer.Seconds, nil
}

func (p *peer) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func (p *peer) close() {
	p.in.Close()
	_ = p.cmd.Wait()
}
