package main

import (
	"os/signal"
	"syscall"

	"github.com/dreamood/dreamood/internal/app"
)

// EngineCmd is the process that a server starts for its models; nobody types it.
type EngineCmd struct{}

// Run serves the parent until that ends. Signals that ask to stop are the parent's to answer.
func (EngineCmd) Run() error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	return app.ServeEngine()
}
