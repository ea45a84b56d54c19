package runs

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/dreamood/dreamood/internal/stage"
)

// A run belongs to the trace of the call that submitted it. The document keeps the parent, so that messages which are
// published again, by whomever, carry it too:
//
//	client call ─ server ─ submit ─┬─ queue wait           message stored → first delivery
//	                               └─ shard ─┬─ claim      one for each delivery
//	                                         ├─ work ── parts, calls to other roles
//	                                         ├─ commit
//	                                         └─ finish ── claim, commit
const traceHeader = "traceparent" // of a message, as in HTTP: https://www.w3.org/TR/trace-context/

// carrier are the headers of a message as OpenTelemetry sees them. NATS keeps the case of names.
type carrier struct{ h nats.Header }

func (c carrier) Get(key string) string { return c.h.Get(key) }
func (c carrier) Set(key, value string) { c.h.Set(key, value) }
func (c carrier) Keys() []string {
	var keys []string
	for key := range c.h {
		keys = append(keys, key)
	}
	return keys
}

// traceOf is the trace of a context as a message carries it; "" when there is none.
func traceOf(ctx context.Context) string {
	h := nats.Header{}
	propagation.TraceContext{}.Inject(ctx, carrier{h})
	return h.Get(traceHeader)
}

// withTrace is ctx under the trace that a message carries.
func withTrace(ctx context.Context, h nats.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier{h})
}

// headers are those of a run's messages.
func (r *Run) headers() nats.Header {
	h := nats.Header{}
	if r.Trace != "" {
		h.Set(traceHeader, r.Trace)
	}
	return h
}

// TraceID are the 32 hexadecimal digits of the run's trace; "" when nobody traces.
func (r *Run) TraceID() string {
	span := trace.SpanContextFromContext(withTrace(context.Background(), r.headers()))
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}

// arrive begins the span of a delivery, and says how long the message waited for its first one.
func (d *delivery) arrive(ctx context.Context) (context.Context, trace.Span) {
	parent := withTrace(ctx, d.msg.Headers())
	ctx, span := d.s.tracer.Start(parent, "shard", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"), attribute.String("dreamood.run", d.id),
		attribute.String("dreamood.kind", d.w.Kind), attribute.Int("dreamood.shard", d.shard),
		attribute.String("dreamood.process", d.s.cfg.Process)))
	meta, err := d.msg.Metadata()
	if err != nil {
		return ctx, span
	}
	span.SetAttributes(attribute.Int64("messaging.nats.deliveries", int64(meta.NumDelivered)))
	if meta.NumDelivered > 1 { // given back in between: nobody knows when
		return ctx, span
	}
	now, waited := time.Now(), max(0, d.s.now().Sub(meta.Timestamp)) // both by the server's clock; the span is by ours
	d.s.observe.Stage(d.w.Kind, "queue", waited, 1)
	_, wait := d.s.tracer.Start(parent, "queue wait", trace.WithTimestamp(now.Add(-waited)), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithAttributes(attribute.String("dreamood.kind", d.w.Kind), attribute.Int("dreamood.shard", d.shard)))
	wait.End(trace.WithTimestamp(now))
	return ctx, span
}

// enter begins a step of a delivery, which end ends: a span, a stage for the observer, and the parent of what the work
// under the returned context names as its parts.
func (d *delivery) enter(ctx context.Context, name string) (_ context.Context, end func()) {
	ctx, span := d.s.tracer.Start(ctx, name)
	ctx = stage.Listen(ctx, func(p stage.Part) { d.part(ctx, p) })
	began := time.Now()
	return ctx, func() {
		span.End()
		d.s.observe.Stage(d.w.Kind, name, time.Since(began), 1)
	}
}

// part writes down a part of the work that has ended.
func (d *delivery) part(ctx context.Context, p stage.Part) {
	d.s.observe.Stage(d.w.Kind, p.Name, p.End.Sub(p.Begin), p.Count)
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	var attributes []attribute.KeyValue
	if p.Count > 0 {
		attributes = append(attributes, attribute.Int64("dreamood.count", p.Count))
	}
	if p.Busy > 0 {
		attributes = append(attributes, attribute.Float64("dreamood.busy_seconds", p.Busy.Seconds()))
	}
	_, span := d.s.tracer.Start(ctx, p.Name, trace.WithTimestamp(p.Begin), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(p.End))
}

// traceAttempt writes the outcome of an attempt into its delivery's span.
func (a *attempt) traceAttempt(outcome string, err error) {
	a.s.observe.Attempt(a.w.Kind, outcome)
	a.span.SetAttributes(attribute.Int("dreamood.attempt", a.run.unit(a.unit).Attempt), attribute.String("dreamood.outcome", outcome))
	if err != nil {
		a.span.RecordError(err)
		a.span.SetStatus(codes.Error, outcome)
	}
}
