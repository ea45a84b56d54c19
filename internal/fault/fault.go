// Package fault is the vocabulary of errors that cross a process border: what kind of problem it is, which fields
// are at fault, and what the user can do. Only internal/rpc turns faults into gRPC status and back.
package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reason is the kind of a problem. Its text is the reason of google.rpc.ErrorInfo, so it never changes.
type Reason string

// The reasons, each with the gRPC code that it becomes.
const (
	InvalidArgument    Reason = "INVALID_ARGUMENT"    // the request can never work; see Violations
	NotFound           Reason = "NOT_FOUND"           // no such resource
	AlreadyExists      Reason = "ALREADY_EXISTS"      // the id is taken by something else
	FailedPrecondition Reason = "FAILED_PRECONDITION" // the state does not allow it; retrying alone does not help
	ResourceExhausted  Reason = "RESOURCE_EXHAUSTED"  // a limit; try again after RetryAfter
	Unavailable        Reason = "UNAVAILABLE"         // a peer or resource is away for the moment; try again
	Cancelled          Reason = "CANCELLED"           // the caller gave up
	DeadlineExceeded   Reason = "DEADLINE_EXCEEDED"   // the caller's time was up
	Unauthenticated    Reason = "UNAUTHENTICATED"     // no or a wrong token or certificate
	PermissionDenied   Reason = "PERMISSION_DENIED"   // the caller's role, or its not being the owner, does not allow it
	Internal           Reason = "INTERNAL"            // a defect or a broken environment
)

// Violation is one field at fault.
type Violation struct {
	Field   string // path of the request field, e.g. "sampling.k"
	Problem string // what is wrong and what is right
}

// Error is a problem with its reason. The zero RetryAfter means that nothing is known about retrying.
type Error struct {
	Reason     Reason
	Message    string
	Violations []Violation
	RetryAfter time.Duration
	Call       string // id of the call in the server's log; "" when not known
	Err        error  // what caused it; may be nil
}

func (e *Error) Error() string {
	if len(e.Violations) == 0 {
		return e.Message
	}
	lines := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		lines[i] = v.Field + ": " + v.Problem
	}
	if e.Message == "" {
		return strings.Join(lines, "; ")
	}
	return e.Message + ": " + strings.Join(lines, "; ")
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a reason. A %w in format keeps the cause.
func New(reason Reason, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Invalid makes an InvalidArgument for one field.
func Invalid(field, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Reason: InvalidArgument, Violations: []Violation{{field, err.Error()}}, Err: errors.Unwrap(err)}
}

// ReasonOf finds the reason of err: of the outermost Error in its chain, of a context's end, else Internal.
// It returns "" for nil.
func ReasonOf(err error) Reason {
	var f *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &f):
		return f.Reason
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	}
	return Internal
}

// Permanent reports whether doing the same again can never help.
func Permanent(err error) bool {
	switch ReasonOf(err) {
	case InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, Unauthenticated, PermissionDenied:
		return true
	}
	return false
}

// Checks collects violations, so that a request is told all its problems at once.
type Checks struct{ list []Violation }

// Add notes a problem of a field.
func (c *Checks) Add(field, format string, args ...any) {
	c.list = append(c.list, Violation{field, fmt.Sprintf(format, args...)})
}

// That notes a problem unless ok.
func (c *Checks) That(ok bool, field, format string, args ...any) {
	if !ok {
		c.Add(field, format, args...)
	}
}

// Err is nil, or an InvalidArgument with everything noted.
func (c *Checks) Err() error {
	if len(c.list) == 0 {
		return nil
	}
	return &Error{Reason: InvalidArgument, Violations: c.list}
}

// Join is the first error that is no InvalidArgument, or all violations as one, or nil.
func Join(errs ...error) error {
	var c Checks
	for _, err := range errs {
		var f *Error
		switch {
		case err == nil:
		case errors.As(err, &f) && f.Reason == InvalidArgument && len(f.Violations) > 0:
			c.list = append(c.list, f.Violations...)
		default:
			return err
		}
	}
	return c.Err()
}
