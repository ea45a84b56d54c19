package main

import (
	"context"
	"fmt"
)

// DemoCmd runs the whole path on the pictures that ship with the project.
type DemoCmd struct {
	Out string `default:"out/demo" type:"path" placeholder:"DIR" help:"Folder to write to (default out/demo)."`
}

// Run is not there yet.
func (c *DemoCmd) Run(ctx context.Context, s *Session) error {
	return fmt.Errorf("demo: this build has no demo yet")
}
