package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dreamood/dreamood/internal/fault"
)

// The exit codes.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitOOD       = 3
	exitCancelled = 4
	exitRefused   = 5
	exitDetached  = 130
)

// exitError ends the program with a code. A nil err means that everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage makes an error of the command line itself.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// report prints err once, for people, and returns the exit code. command knows which flag sets which field.
func (s *Session) report(command *kong.Node, err error) int {
	var exit *exitError
	var f *fault.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			s.complain("%s", exit.err)
		}
		return exit.code
	case errors.As(err, &f) && len(f.Violations) > 0:
		s.reportViolations(flagsByField(command), f.Violations)
		return exitUsage
	case errors.Is(err, context.Canceled):
		s.complain("interrupted")
		return exitDetached
	}
	s.complain("%s", brief(err))
	if errors.As(err, &f) {
		if todo := s.remedy(f); todo != "" {
			s.complain("%s", todo)
		}
		if f.Reason == fault.InvalidArgument {
			return exitUsage
		}
	}
	return exitFailed
}

// reportViolations prints what is wrong with the request, one problem per line, under the flag that sets it.
func (s *Session) reportViolations(flags map[string]string, list []fault.Violation) {
	if s.open == nil {
		s.complain("nothing was done, because of:")
	} else {
		s.complain("the server refuses the request before any work:")
	}
	for _, v := range list {
		fmt.Fprintf(s.Err, "  %s: %s\n", clean(flagOf(flags, v.Field)), clean(v.Problem))
	}
}

// flagsByField maps request fields to the flags and arguments of a command that set them, from the tag `field`.
func flagsByField(command *kong.Node) map[string]string {
	flags := map[string]string{}
	if command == nil {
		return flags
	}
	for _, v := range command.Values() {
		for _, field := range v.Tag.GetAll("field") {
			flags[field] = v.ShortSummary()
		}
	}
	return flags
}

var indices = regexp.MustCompile(`\[[^\]]*\]`)

// flagOf finds the flag that sets a field: the field's own, else that of the nearest field around it, so that
// "ood_datasets[1].path" is --ood. A field that no flag sets keeps its name.
func flagOf(flags map[string]string, field string) string {
	path := indices.ReplaceAllString(field, "")
	for path != "" {
		if flag, ok := flags[path]; ok {
			return flag
		}
		cut := strings.LastIndexByte(path, '.')
		path = path[:max(cut, 0)]
	}
	return field
}

// brief is what an error says, without the layers of transport around the reason why a server cannot be reached.
func brief(err error) string {
	text := err.Error()
	for _, layer := range []string{"Error while dialing: ", "authentication handshake failed: "} {
		if _, cause, ok := strings.Cut(text, layer); ok {
			return strings.TrimSuffix(cause, `"`)
		}
	}
	if strings.Contains(text, "closing transport") || strings.Contains(text, "error reading from server") {
		return "the server went away"
	}
	return text
}

var lists = []struct{ prefix, command string }{
	{"spaces/", "dreamood space list"}, {"embeddings/", "dreamood embeddings list"}, {"sets/", "dreamood sets list"},
	{"detectors/", "dreamood detector list"}, {"runs/", "dreamood runs list"}, {"deadLetters/", "dreamood runs dead list"},
}

// remedy says what the user can do about a fault that came from the server, or nothing.
func (s *Session) remedy(f *fault.Error) string {
	switch {
	case strings.Contains(f.Message, "unknown service dreamood."):
		return fmt.Sprintf("the server at %s does not run this role; name one that does with --server", s.Server)
	case f.Reason == fault.Unauthenticated:
		return fmt.Sprintf("show %s who this is, with --token-file, or with --tls-cert and --tls-key", s.Server)
	case f.Reason == fault.Unavailable && strings.Contains(f.Message, "first record does not look like a TLS"):
		return fmt.Sprintf("the server at %s does not encrypt; leave out --tls, --tls-ca and --tls-cert", s.Server)
	case f.Reason == fault.Unavailable && strings.Contains(f.Message, "authentication handshake failed"):
		return fmt.Sprintf("is --tls-ca the authority of the certificate of %s, and does the certificate have that name?", s.Server)
	case f.Reason == fault.Unavailable && strings.Contains(f.Message, "error reading server preface"):
		return fmt.Sprintf("does the server at %s encrypt? Name the authority of its certificate with --tls-ca", s.Server)
	case f.Reason == fault.Unavailable:
		return fmt.Sprintf("is a server running at %s? Start one with `dreamood serve`, or say where it is with --server", s.Server)
	case f.Reason == fault.AlreadyExists && strings.Contains(f.Message, "new_version"):
		return "choose another name, or make the next version with --new-version"
	case f.Reason == fault.AlreadyExists:
		return "choose another name"
	case f.Reason == fault.ResourceExhausted && f.RetryAfter > 0:
		return "try again in " + span(f.RetryAfter)
	case f.Reason == fault.Internal && f.Call != "":
		return fmt.Sprintf("the server's log has more, under call_id %s", clean(f.Call))
	case f.Reason == fault.Internal:
		return "the server's log has more"
	case f.Reason == fault.NotFound:
		for _, l := range lists {
			if strings.Contains(f.Message, l.prefix) {
				return fmt.Sprintf("`%s` names what there is", s.command(l.command))
			}
		}
	}
	return ""
}
