package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// DoctorCmd says what is there and what is missing.
type DoctorCmd struct {
	Models string `default:"models" type:"path" env:"DREAMOOD_MODELS" placeholder:"DIR" help:"Folder of diffusion models (default models)."`
	Data   string `default:".dreamood" type:"path" env:"DREAMOOD_DATA" placeholder:"DIR" help:"Folder that serve keeps its data in (default .dreamood)."`
	NATS   string `name:"nats" env:"DREAMOOD_NATS" placeholder:"URL" help:"NATS server of the mesh, where there is one."`

	NeedServer bool `help:"Fail when no server answers at --server: a health check."`
}

// Help teaches the command.
func (DoctorCmd) Help() string {
	return `Looks at everything that dreamood needs, changes nothing, and says for each missing thing what to do. Exits with 1
when something needed is missing. A NATS server is needed only when you name it; a server only with --need-server, as a health check wants.

    dreamood doctor
    dreamood doctor --nats nats://queue:4222 --server embedder:7460 --need-server --output json`
}

// grade is the result of a check.
type grade string

const (
	good    grade = "ok"
	note    grade = "note"    // not needed, or worth knowing
	missing grade = "missing" // needed
)

// finding is what a check found.
type finding struct {
	Check  string `json:"check"`
	Grade  grade  `json:"grade"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // what to do
}

// Run makes all checks and prints them.
func (c *DoctorCmd) Run(ctx context.Context, s *Session) error {
	findings := []finding{checkProgram(), checkMachine()}
	findings = append(findings, checkEngine()...)
	findings = append(findings, checkModels(c.Models)...)
	findings = append(findings, checkData(c.Data), checkNATS(ctx, c.NATS), s.checkServer(ctx, c.NeedServer))
	bad := 0
	for _, f := range findings {
		if f.Grade == missing {
			bad++
		}
		if s.json() {
			if err := json.NewEncoder(s.Out).Encode(f); err != nil {
				return err
			}
			continue
		}
		s.say("%-8s %-12s %s", string(f.Grade), f.Check, f.Found)
		if f.Remedy != "" {
			s.say("%-8s %-12s -> %s", "", "", f.Remedy)
		}
	}
	switch {
	case bad == 1:
		return &exitError{exitFailed, fmt.Errorf("one thing that is needed is missing")}
	case bad > 1:
		return &exitError{exitFailed, fmt.Errorf("%d things that are needed are missing", bad)}
	}
	s.hint("all that is needed is here")
	return nil
}
