// Package logs carries the fields of log lines through contexts, so that every line about a run names the run, its
// shard and attempt, and every line of a call the call, wherever it is written; and both the trace.
package logs

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

type key struct{}

// With adds fields to all lines that From's loggers write under the returned context.
func With(ctx context.Context, fields ...zap.Field) context.Context {
	before, _ := ctx.Value(key{}).([]zap.Field)
	return context.WithValue(ctx, key{}, slices.Concat(before, fields))
}

// From is log with the fields of ctx, and with its trace where there is one.
func From(ctx context.Context, log *zap.Logger) *zap.Logger {
	fields, _ := ctx.Value(key{}).([]zap.Field)
	return log.With(append(slices.Clip(fields), Trace(ctx))...)
}

// Trace is the field trace_id of ctx, the trace's 32 hexadecimal digits; no field where ctx has no trace.
func Trace(ctx context.Context) zap.Field {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return zap.Stringer("trace_id", span.TraceID())
	}
	return zap.Skip()
}
