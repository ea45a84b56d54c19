package main

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/codes"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/telemetry"
)

// startTracing traces the command, where the flags or the environment want it: a client command is the root of its
// trace, a server only part of others'. end ends the trace and sends what is left of it.
func (s *Session) startTracing(ctx context.Context, command, target string) (_ context.Context, end func(error), err error) {
	serves := command == "dreamood serve"
	service, log := "client", zap.NewNop()
	if serves {
		service = target
		if log, err = s.logger(); err != nil {
			return ctx, nil, err
		}
	}
	s.tracing, err = telemetry.StartTracing(ctx, telemetry.TracingConfig{Service: service, Version: version, File: s.TraceFile, Log: log})
	if err != nil {
		return ctx, nil, usage("%w", err)
	}
	provider := s.tracing.Provider()
	if provider == nil {
		return ctx, func(error) {}, nil
	}
	finish := func(error) {}
	if !serves {
		traced, span := provider.Tracer("github.com/dreamood/dreamood").Start(ctx, strings.TrimSpace(command))
		ctx = traced
		finish = func(err error) {
			if err != nil {
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
			s.hint("trace %s", span.SpanContext().TraceID())
		}
	}
	return ctx, func(err error) {
		finish(err)
		s.close() // ends the spans of calls that were left
		if err := s.tracing.Close(); err != nil {
			s.complain("%v", err)
		}
	}, nil
}
