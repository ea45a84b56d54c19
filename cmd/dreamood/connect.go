package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/telemetry"
)

// Session is what a command works with: the global flags, the streams, and the connection to the server.
type Session struct {
	Globals
	Out io.Writer // results
	Err io.Writer // progress, hints and errors

	dial func(addr string) (*grpc.ClientConn, error) // nil: by the flags
	open *grpc.ClientConn

	tracing *telemetry.Tracing // nil or the zero value: none
}

// conn is the connection to --server. It connects at the first call.
func (s *Session) conn() (grpc.ClientConnInterface, error) {
	if s.open == nil {
		dial := s.dial
		if dial == nil {
			log, err := s.logger()
			if err != nil {
				return nil, err
			}
			dial = func(addr string) (*grpc.ClientConn, error) {
				return s.credentials(log).Dial(addr, rpc.Traced(s.tracing.Provider()))
			}
		}
		conn, err := dial(s.Server)
		if err != nil {
			return nil, usage("--server %s: %w", s.Server, err)
		}
		s.open = conn
	}
	return s.open, nil
}

func (s *Session) close() {
	if s.open != nil {
		s.open.Close()
	}
}

// client makes a generated client on the connection.
func client[C any](s *Session, make func(grpc.ClientConnInterface) C) (C, error) {
	conn, err := s.conn()
	if err != nil {
		var none C
		return none, err
	}
	return make(conn), nil
}

// command is a command line to type next, with the server where it is not the default one.
func (s *Session) command(line string) string {
	if s.Server != defaultServer {
		line += " --server " + s.Server
	}
	return line
}

// resource is the resource name that the user means: "cifar10" and "spaces/cifar10" are the same space.
// Behind the name of a detector may stand @ and a version or an alias.
func resource(c ood.Collection, name string) (string, error) {
	if detector, ref, found := strings.Cut(name, "@"); found && c == ood.Detectors {
		full, err := resource(c, detector)
		if err == nil && !ood.ValidID(ref) {
			err = usage("%q: behind the @ stands a version, such as 7, or an alias, such as live", name)
		}
		return full + "@" + ref, err
	}
	if ood.ValidID(name) {
		return c.Name(name), nil
	}
	if _, err := c.ID(name); err != nil {
		return "", usage("%w", err)
	}
	return name, nil
}

// identifier is the id of a resource that the user wants to make.
func identifier(c ood.Collection, name string) (string, error) {
	full, err := resource(c, name)
	if err != nil {
		return "", err
	}
	return c.ID(full)
}

// requestID is the idempotency key of a submission: the user's own, or a new one, so that a call that the
// connection repeats starts the work once.
func requestID(own string) (string, error) {
	if own != "" {
		return own, nil
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a request id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// eachPage calls fetch with the token of every page, until a page names no next one.
func eachPage(fetch func(token string) (next string, err error)) error {
	seen := map[string]bool{}
	for token := ""; ; {
		next, err := fetch(token)
		if err != nil || next == "" {
			return err
		}
		if seen[next] {
			return fmt.Errorf("list: the server names the page %q twice", next)
		}
		seen[next] = true
		token = next
	}
}
