package diffusion

import (
	"fmt"
	"slices"
)

// Checkpoint is a batch between two U-Net calls: rendering that goes on from it
// gives the bytes that it would have given.
type Checkpoint struct {
	Done    int           // U-Net calls
	Latents []float32     // [B, C, h, w]
	History [][][]float32 // what each sample keeps from call to call
}

func checkpointOf(samples []Trajectory, done int, latents []float32) Checkpoint {
	c := Checkpoint{Done: done, Latents: slices.Clone(latents)}
	for _, s := range samples {
		c.History = append(c.History, s.history())
	}
	return c
}

// restore sets the latents and the samples, which begin at step first of total,
// to the checkpoint.
func (c *Checkpoint) restore(samples []Trajectory, first, total int, latents []float32) error {
	fits := c.Done >= 0 && first+c.Done < total && len(c.Latents) == len(latents) && len(c.History) == len(samples)
	for i, s := range samples {
		fits = fits && s.recall(c.History[i], first+c.Done, len(latents)/len(samples))
	}
	if !fits {
		return fmt.Errorf("the checkpoint after %d calls of the U-Net, with %d numbers, is of another rendering: this one has %d calls and %d numbers", c.Done, len(c.Latents), total-first, len(latents))
	}
	copy(latents, c.Latents)
	return nil
}
