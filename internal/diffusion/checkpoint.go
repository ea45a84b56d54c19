package diffusion

import (
	"fmt"
	"slices"
)

// Checkpoint is a batch between two U-Net calls: rendering that goes on from it
// gives the bytes that it would have given.
type Checkpoint struct {
	Done    int         // U-Net calls
	Latents []float32   // [B, C, h, w]
	History [][]float32 // what the scheduler keeps from call to call
}

// keeper is a scheduler that keeps something from step to step. history is a copy
// of it; recall takes one back, of samples of n numbers after some steps, and says
// whether it fits.
type keeper interface {
	history() [][]float32
	recall(history [][]float32, steps, n int) bool
}

func checkpointOf(s Scheduler, done int, latents []float32) Checkpoint {
	c := Checkpoint{Done: done, Latents: slices.Clone(latents)}
	if k, ok := s.(keeper); ok {
		c.History = k.history()
	}
	return c
}

// restore sets the latents and the scheduler, which is new, to the checkpoint.
func (c *Checkpoint) restore(s Scheduler, latents []float32) error {
	fits := c.Done >= 0 && c.Done < len(s.Timesteps()) && len(c.Latents) == len(latents)
	if k, ok := s.(keeper); ok && fits {
		fits = k.recall(c.History, c.Done, len(latents))
	}
	if !fits {
		return fmt.Errorf("the checkpoint after %d calls of the U-Net, with %d numbers, is of another rendering: this one has %d calls and %d numbers", c.Done, len(c.Latents), len(s.Timesteps()), len(latents))
	}
	copy(latents, c.Latents)
	return nil
}

// history is the sample that a step started from, the weighted outputs so far, and
// the last outputs.
func (p *pndm) history() [][]float32 {
	out := [][]float32{slices.Clone(p.kept), slices.Clone(p.sum)}
	for _, o := range p.outputs {
		out = append(out, slices.Clone(o))
	}
	return out
}

func (p *pndm) recall(history [][]float32, steps, n int) bool {
	if len(history) < 2 || len(history) > 6 {
		return false
	}
	for i, h := range history {
		if len(h) != n && (i >= 2 || len(h) > 0) {
			return false
		}
	}
	copies := make([][]float32, len(history))
	for i, h := range history {
		copies[i] = slices.Clone(h)
	}
	p.counter, p.kept, p.sum, p.outputs = steps, copies[0], copies[1], copies[2:]
	return true
}
