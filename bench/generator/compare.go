package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/bench/peer"
	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

type bench struct{ python, script, random, only, peers string }

// model is what all sides render with.
type model struct {
	name, folder, dir string // of the record; of ours and its name there; of the peers
	width             int
	steps             int
	guidance          float64
	rounds            map[int]int // by clients
}

func (b bench) models() []model {
	return []model{
		{name: "reference", folder: "models", dir: "models/reference", width: 256, steps: 20, guidance: 3, rounds: map[int]int{1: 5, 4: 3, 16: 2}},
		{name: "sd18m", folder: b.random, dir: b.random, width: 256, steps: 5, guidance: 7.5, rounds: map[int]int{1: 3, 4: 1, 16: 1}},
	}
}

// side renders for so many clients at once, in seconds.
type side struct {
	name   string
	ours   bool
	render func(ctx context.Context, clients int) (float64, error)
	stop   func()
	took   map[int][]float64
}

// speed is the pictures per second for so many clients. A peer has the better of one batch of all and of one after the
// other, so that it is not blamed for a batch that does not suit it.
func (s *side) speed(clients int) float64 {
	speed := float64(clients) / record.Median(s.took[clients])
	if !s.ours {
		speed = max(speed, 1/record.Median(s.took[1]))
	}
	return speed
}

var clients = []int{1, 4, 16}

func (b bench) compare(ctx context.Context) ([]record.Record, error) {
	var all []record.Record
	for _, m := range b.models() {
		if b.only != "" && m.name != b.only {
			continue
		}
		rs, err := b.model(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

func (b bench) model(ctx context.Context, m model) ([]record.Record, error) {
	p, err := peer.Start("the peers", nil, b.python, b.script)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	ours, err := m.ours()
	if err != nil {
		return nil, err
	}
	theirs := slices.DeleteFunc(m.theirs(p), func(s *side) bool { return !strings.Contains(s.name, b.peers) })
	sides := append(ours, theirs...)
	for _, s := range sides {
		defer s.stop()
		fmt.Printf("  %s: %s\n", m.name, s.name)
		if _, err := s.render(ctx, 1); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, n := range clients {
		for _, s := range sides {
			if s.ours { // what is made at the first use of a batch size
				if _, err := s.render(ctx, n); err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
		for range m.rounds[n] {
			for _, s := range sides {
				took, err := s.render(ctx, n)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				s.took[n] = append(s.took[n], took)
			}
		}
		for _, s := range sides {
			fmt.Printf("  %s, %2d clients: %-34s %8.3f pictures/s\n", m.name, n, s.name, s.speed(n))
		}
	}
	return m.records(ours, theirs), nil
}

// ours are the ways in which our side can run: the CPU provider in float32, on one lane and on two, and OpenVINO.
func (m model) ours() ([]*side, error) {
	threads := runtime.GOMAXPROCS(0)
	configs := []struct {
		name string
		cfg  diffusion.Config
	}{
		{"fp32", diffusion.Config{ONNX: onnx.Config{Threads: threads}, Lanes: 2}},
		{"fp32-untouched", diffusion.Config{ONNX: onnx.Config{Threads: threads}, Untouched: true}},
		{"fp32-openvino", diffusion.Config{ONNX: onnx.Config{Threads: threads, Provider: "openvino"}}},
		{"bf16-openvino", diffusion.Config{ONNX: onnx.Config{Threads: threads, Provider: "openvino", Precision: "bf16"}}},
	}
	var out []*side
	for _, c := range configs {
		name := filepath.Base(m.dir)
		if m.name == "sd18m" {
			name = "onnx"
		}
		s, err := serve(m.folder, name, m.width, c.cfg)
		if err != nil {
			return nil, err
		}
		r := &generatorv1.Rendering{Steps: int32(m.steps), Guidance: m.guidance}
		out = append(out, &side{
			name: c.name, ours: true, took: map[int][]float64{}, stop: s.stop,
			render: func(ctx context.Context, n int) (float64, error) { return s.render(ctx, n, r) },
		})
	}
	return out, nil
}

// question is what the peers can be asked; see peer.py.
type question struct {
	Op           string  `json:"op"`
	Kind         string  `json:"kind"`
	Model        string  `json:"model"`
	DType        string  `json:"dtype,omitempty"`
	ChannelsLast bool    `json:"channels_last,omitempty"`
	Threads      int     `json:"threads"`
	Batch        int     `json:"batch,omitempty"`
	Steps        int     `json:"steps,omitempty"`
	Guidance     float64 `json:"guidance,omitempty"`
	Prompt       string  `json:"prompt,omitempty"`
}

func (m model) theirs(p *peer.Process) []*side {
	threads := runtime.GOMAXPROCS(0)
	var out []*side
	for _, c := range []struct {
		name string
		q    question
	}{
		{"diffusers fp32", question{Kind: "diffusers", DType: "float32"}},
		{"diffusers fp32 channels_last", question{Kind: "diffusers", DType: "float32", ChannelsLast: true}},
		{"diffusers bf16 channels_last", question{Kind: "diffusers", DType: "bfloat16", ChannelsLast: true}},
		{"Optimum fp32", question{Kind: "optimum"}},
	} {
		loaded := false
		out = append(out, &side{name: c.name, took: map[int][]float64{}, stop: func() {}, render: func(_ context.Context, n int) (float64, error) {
			q := c.q
			q.Op, q.Model, q.Threads = "load", m.dir, threads
			if !loaded {
				if _, err := ask(p, q); err != nil {
					return 0, err
				}
				loaded = true
			}
			q.Op, q.Batch, q.Steps, q.Guidance, q.Prompt = "render", n, m.steps, m.guidance, "A high-quality image of the cat"
			return ask(p, q)
		}})
	}
	return out
}

func ask(p *peer.Process, q question) (float64, error) {
	var a struct {
		Seconds float64 `json:"seconds"`
		Error   string  `json:"error"`
	}
	err := p.Ask(q, &a)
	if err == nil && a.Error != "" {
		err = fmt.Errorf("%s %s: %s", q.Kind, q.Op, a.Error)
	}
	return a.Seconds, err
}

// note says what a reader must know of every record.
const note = "the model has random weights in PyTorch; the machine is shared: ratios, not figures"

// records compares each of our ways with each peer.
func (m model) records(ours, theirs []*side) []record.Record {
	var rs []record.Record
	for _, n := range clients {
		for _, o := range ours {
			for _, t := range theirs {
				rs = append(rs, record.Record{
					Name:    fmt.Sprintf("generator/%s/%s/%d-clients", m.name, o.name, n),
					Setting: fmt.Sprintf("%d steps, guidance %g, %d threads; ours over gRPC, one picture a client; the peer in its own process, %d in a batch or one by one", m.steps, m.guidance, runtime.GOMAXPROCS(0), n),
					Unit:    "pictures/s", Ours: o.speed(n), Peer: t.speed(n), PeerName: t.name, Ratio: o.speed(n) / t.speed(n), Runs: m.rounds[n], Note: note,
				})
			}
		}
	}
	return rs
}
