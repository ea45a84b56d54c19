// Package rpc is the gRPC plumbing that every role shares: servers with limits, health, reflection and one log
// line per call; client connections; and the one place where faults become gRPC status and come back.
package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/fault"
)

// Domain is the domain of every google.rpc.ErrorInfo.
const Domain = "dreamood"

var codeOf = map[fault.Reason]codes.Code{
	fault.InvalidArgument:    codes.InvalidArgument,
	fault.NotFound:           codes.NotFound,
	fault.AlreadyExists:      codes.AlreadyExists,
	fault.FailedPrecondition: codes.FailedPrecondition,
	fault.ResourceExhausted:  codes.ResourceExhausted,
	fault.Unavailable:        codes.Unavailable,
	fault.Cancelled:          codes.Canceled,
	fault.DeadlineExceeded:   codes.DeadlineExceeded,
	fault.Unauthenticated:    codes.Unauthenticated,
	fault.PermissionDenied:   codes.PermissionDenied,
	fault.Internal:           codes.Internal,
}

// ToStatus turns an error into a gRPC status with ErrorInfo, and BadRequest and RetryInfo where they apply.
// Errors that already are a status pass unchanged.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		if _, ok := status.FromError(err); ok {
			return err
		}
		f = &fault.Error{Reason: fault.ReasonOf(err)}
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: string(f.Reason), Domain: Domain}}
	if len(f.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.Violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Problem})
		}
		details = append(details, bad)
	}
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
	}
	st, derr := status.New(codeOf[f.Reason], err.Error()).WithDetails(details...)
	if derr != nil {
		return status.Error(codeOf[f.Reason], err.Error())
	}
	return st.Err()
}

// FromStatus turns what a gRPC call returned back into a fault, so that a service that calls another one, and a
// client, sees the reason, the fields and the time to wait. nil stays nil; other errors pass unchanged.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	f := &fault.Error{Reason: fault.Internal, Message: st.Message()}
	for reason, code := range codeOf {
		if code == st.Code() {
			f.Reason = reason
		}
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == Domain {
				f.Reason = fault.Reason(d.Reason)
			}
		case *errdetails.BadRequest:
			f.Message = ""
			for _, v := range d.FieldViolations {
				f.Violations = append(f.Violations, fault.Violation{Field: v.Field, Problem: v.Description})
			}
		case *errdetails.RequestInfo:
			f.Call = d.RequestId
		case *errdetails.RetryInfo:
			f.RetryAfter = d.RetryDelay.AsDuration()
		}
	}
	switch f.Reason {
	case fault.Cancelled:
		f.Err = context.Canceled
	case fault.DeadlineExceeded:
		f.Err = context.DeadlineExceeded
	}
	return f
}

// defaultTimeout bounds a unary call whose client set no deadline; submissions survey whole datasets.
const defaultTimeout = 10 * time.Minute
