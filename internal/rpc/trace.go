package rpc

import (
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// Traced gives the calls of a connection spans, and their servers the trace. nil traces nothing and costs nothing.
func Traced(provider trace.TracerProvider) grpc.DialOption {
	if provider == nil {
		return grpc.EmptyDialOption{}
	}
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(tracing(provider)...))
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
