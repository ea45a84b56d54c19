package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// SetsDeleteCmd deletes a set.
type SetsDeleteCmd struct {
	Name string `arg:"" name:"set" field:"name" help:"The set."`
}

// Run deletes the set.
func (c *SetsDeleteCmd) Run(ctx context.Context, s *Session) error {
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	return s.remove(ood.Sets, c.Name, func(name string) (proto.Message, error) {
		return generator.DeleteSet(ctx, &generatorv1.DeleteSetRequest{Name: name})
	})
}

// DetectorDeleteCmd deletes a detector.
type DetectorDeleteCmd struct {
	Name string `arg:"" name:"detector" field:"name" help:"The detector."`
}

// Run deletes the detector.
func (c *DetectorDeleteCmd) Run(ctx context.Context, s *Session) error {
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	return s.remove(ood.Detectors, c.Name, func(name string) (proto.Message, error) {
		return trainer.DeleteDetector(ctx, &trainerv1.DeleteDetectorRequest{Name: name})
	})
}

// remove deletes a resource and says so.
func (s *Session) remove(c ood.Collection, name string, ask func(name string) (proto.Message, error)) error {
	name, err := resource(c, name)
	if err != nil {
		return err
	}
	deleted, err := ask(name)
	if err != nil {
		return err
	}
	if s.json() {
		return s.object(deleted)
	}
	s.say("%s is deleted", name)
	return nil
}
