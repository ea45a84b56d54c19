package rpc

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Traced gives the calls of a connection spans, and their servers the trace. nil traces nothing and costs nothing.
func Traced(provider trace.TracerProvider) grpc.DialOption {
	if provider == nil {
		return grpc.EmptyDialOption{}
	}
	return grpc.WithStatsHandler(client{otelgrpc.NewClientHandler(tracing(provider)...)})
}

// client traces calls. One that the caller has given up, as it does with a stream of which it has seen enough, did not
// fail: its span ends without an error, with the code CANCELLED.
type client struct{ stats.Handler }

func (c client) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if ok && status.Code(end.Error) == codes.Canceled && errors.Is(ctx.Err(), context.Canceled) {
		span := trace.SpanFromContext(ctx)
		span.SetAttributes(attribute.String("rpc.response.status_code", "CANCELLED"))
		span.End()
		return
	}
	c.Handler.HandleRPC(ctx, s)
}

// traced gives the calls that a server takes spans, in the trace of the caller.
func traced(provider trace.TracerProvider) grpc.ServerOption {
	if provider == nil {
		return grpc.EmptyServerOption{}
	}
	return grpc.StatsHandler(otelgrpc.NewServerHandler(tracing(provider)...))
}

func tracing(provider trace.TracerProvider) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return !quiet(info.FullMethodName) }),
	}
}

// quiet are the methods that probes call all the time: they are neither logged nor traced.
func quiet(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}
