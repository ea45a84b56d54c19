package main

import "context"

// ServeCmd runs the mesh.
type ServeCmd struct{}

// Run is written last.
func (c *ServeCmd) Run(ctx context.Context, s *Session) error { return nil }
