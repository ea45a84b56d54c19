package main

import trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"

// Augment are the flags that say how pictures are varied.
type Augment struct {
	Pad        *int32 `group:"pictures" field:"training.augmentation" placeholder:"N" help:"Random crop after padding by so many pixels (default 4)."`
	NoFlip     bool   `group:"pictures" help:"Do not mirror half of the pictures."`
	Cutout     int32  `group:"pictures" placeholder:"N" help:"Edge of a square set to the mean colour, in pixels (default none)."`
	Operations int32  `group:"pictures" placeholder:"N" help:"Operations of RandAugment for each picture, 0 to 8 (default none)."`
	Magnitude  int32  `group:"pictures" placeholder:"N" help:"Magnitude of these, 1 to 30 (default 9)."`
}

// message is nil where no flag is given: then the server's default holds.
func (a Augment) message() *trainerv1.Augmentation {
	if a == (Augment{}) {
		return nil
	}
	m := &trainerv1.Augmentation{Pad: 4, Flip: !a.NoFlip, Cutout: a.Cutout, Operations: a.Operations, Magnitude: a.Magnitude}
	if a.Pad != nil {
		m.Pad = *a.Pad
	}
	return m
}
