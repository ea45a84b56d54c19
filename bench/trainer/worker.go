package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/train"
)

// question asks either side for some steps.
type question struct {
	Network string `json:"network"`
	Width   int    `json:"width"`
	Batch   int    `json:"batch"`
	Mode    string `json:"mode"` // ours: "fp32" or "bf16" (OpenVINO)
	Threads int    `json:"threads"`
	Steps   int    `json:"steps"`
}

// answer holds the seconds of each step and the most memory that the process had.
type answer struct {
	Seconds []float64 `json:"seconds"`
	PeakMiB float64   `json:"peak_mib"`
	Error   string    `json:"error,omitempty"`
}

// work is our side: a process of its own, so that its memory can be compared. It answers lines until its input ends.
func work() error {
	if err := onnx.Open(""); err != nil {
		return err
	}
	made := map[string]*train.Trainer{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			return err
		}
		a, err := steps(made, q)
		if err != nil { // what a side cannot do is part of the result
			a = answer{Error: err.Error()}
		}
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return in.Err()
}

func steps(made map[string]*train.Trainer, q question) (answer, error) {
	key := q.Network + q.Mode
	if made[key] == nil {
		network, err := train.NewNetwork(q.Network, q.Width)
		if err != nil {
			return answer{}, err
		}
		cfg := train.Config{Threads: q.Threads}
		if q.Mode == "bf16" {
			cfg.Provider, cfg.Precision = "openvino", "bf16"
		}
		made[key], err = train.New(train.Spec{Network: network, Head: train.Classifier{N: 10}, Batch: q.Batch}, cfg)
		if err != nil {
			return answer{}, err
		}
		if _, err := timed(made[key], 1); err != nil { // the first one allocates
			return answer{}, err
		}
	}
	seconds, err := timed(made[key], q.Steps)
	return answer{Seconds: seconds, PeakMiB: peak()}, err
}

// timed takes steps on one batch of noise.
func timed(t *train.Trainer, n int) ([]float64, error) {
	s := t.Spec()
	r := rand.New(rand.NewPCG(1, 0))
	b := train.Batch{Images: make([]float32, s.Batch*3*s.Height*s.Width), Labels: make([]int, s.Batch)}
	for i := range b.Images {
		b.Images[i] = r.Float32()
	}
	for i := range b.Labels {
		b.Labels[i] = r.IntN(10)
	}
	var out []float64
	for range n {
		began := time.Now()
		if _, err := t.Step(context.Background(), b, 0.01); err != nil {
			return nil, err
		}
		out = append(out, time.Since(began).Seconds())
	}
	return out, nil
}

// peak is the most memory that this process had, in MiB.
func peak() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" { // in bytes there, in KiB elsewhere
		return float64(u.Maxrss) / (1 << 20)
	}
	return float64(u.Maxrss) / (1 << 10)
}
