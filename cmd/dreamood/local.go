package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/app"
	"go.uber.org/zap"
)

// locally runs do against a mesh in this process, with its data in dir. The folders around the given paths are its
// dataset roots. Started again after a kill, it goes on with the work that its queue holds.
func (s *Session) locally(ctx context.Context, dir, models string, paths []string, do func(context.Context, *Session) error) error {
	log, closeLog, err := fileLogger(filepath.Join(dir, "local.log"), s.LogLevel)
	if err != nil {
		return err
	}
	defer closeLog()
	if _, err := os.Stat(models); err != nil {
		return usage("--models %s: no such folder; the mesh in this process wants the diffusion models (the project ships models/reference)", models)
	}
	var roots []string
	for _, p := range paths {
		if root := filepath.Dir(p); !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	return s.inMesh(ctx, app.Config{Data: dir, Models: models, Datasets: roots}, log, do)
}

// inMesh runs a mesh in this process, lets do be its client, and stops it.
func (s *Session) inMesh(ctx context.Context, cfg app.Config, log *zap.Logger, do func(context.Context, *Session) error) error {
	a, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return errors.Join(err, a.Close())
	}
	conn, err := a.Dial()
	if err != nil {
		return errors.Join(err, a.Close())
	}
	before := s.open
	s.open = conn
	err = do(ctx, s)
	conn.Close()
	s.open = before
	return errors.Join(err, a.Close())
}
