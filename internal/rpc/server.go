package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/logs"
)

// MaxMessage bounds one gRPC message in bytes, both ways.
const MaxMessage = 64 << 20

// Config of a server. The zero value is usable.
type Config struct {
	MaxStreams   uint32        // concurrent calls per connection; default 256
	DrainTimeout time.Duration // how long a stop waits for calls under way; default 10 s
	// Followers are the methods whose calls last as long as the client likes: a stop ends them at once, with
	// Unavailable, instead of waiting for them.
	Followers []string
	// TLS encrypts; nil is plain text.
	TLS credentials.TransportCredentials
	// Auth finds out who calls; nil asks nobody, and everybody may do everything.
	Auth     *Authenticator
	Tracing  trace.TracerProvider // of the calls taken; nil: none
	Observer Observer             // nil: none
}

// Server is a gRPC server with health, reflection, limits and logs.
type Server struct {
	*grpc.Server
	cfg    Config
	log    *zap.Logger
	health *health.Server
	done   chan error

	stopping context.Context // done when Stop begins
	stop     context.CancelFunc
}

// NewServer makes a server that says NOT_SERVING until Start.
func NewServer(cfg Config, log *zap.Logger) *Server {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 256
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	s := &Server{cfg: cfg, log: log, health: health.NewServer(), done: make(chan error, 1)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	opts := []grpc.ServerOption{
		traced(cfg.Tracing),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 30 * time.Minute, MaxConnectionAgeGrace: time.Hour}),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(cfg.TLS))
	}
	if cfg.Auth != nil {
		opts = append(opts, grpc.InTapHandle(s.tap))
	}
	s.Server = grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s.Server, s.health)
	reflection.Register(s.Server)
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return s
}

// Start serves on l and says SERVING.
func (s *Server) Start(l net.Listener) {
	for name := range s.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	go func() { s.done <- s.Serve(l) }()
}

// Done delivers the error that ended serving; nil after Stop.
func (s *Server) Done() <-chan error { return s.done }

// Retire says NOT_SERVING and goes on serving, so that whoever looks sends nothing new here.
func (s *Server) Retire() { s.health.Shutdown() }

// Stop says NOT_SERVING, waits for the calls under way for at most DrainTimeout, then ends them.
func (s *Server) Stop() {
	s.health.Shutdown()
	s.stop()
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(s.cfg.DrainTimeout):
		s.Server.Stop()
		<-stopped
	}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
	}
	ctx, id := withCall(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs(callHeader, id)) // only a client that is gone does not get it
	began := time.Now()
	defer func() { err = named(s.finish(ctx, info.FullMethod, began, recover(), err), id) }()
	if !slices.Contains(s.cfg.Followers, info.FullMethod) {
		return next(ctx, req)
	}
	until, release := s.untilStop(ctx)
	defer release()
	resp, err = next(until, req)
	return resp, s.stopped(ctx, err)
}

// untilStop is ctx that also ends when the server stops.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(s.stopping, cancel)
	return ctx, func() { forget(); cancel() }
}

// stopped is what a follower ended with: Unavailable when it was the server that ended it, not the client.
func (s *Server) stopped(client context.Context, err error) error {
	if err != nil && s.stopping.Err() != nil && client.Err() == nil {
		return fault.New(fault.Unavailable, "the server is stopping; go on from here when it is back")
	}
	return err
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	ctx, id := withCall(ss.Context())
	_ = ss.SetHeader(metadata.Pairs(callHeader, id)) // only a client that is gone does not get it
	began := time.Now()
	defer func() { err = named(s.finish(ctx, info.FullMethod, began, recover(), err), id) }()
	if !slices.Contains(s.cfg.Followers, info.FullMethod) {
		return next(srv, serverStream{ss, ctx})
	}
	followed, release := s.untilStop(ctx)
	defer release()
	return s.stopped(ctx, next(srv, serverStream{ss, followed}))
}

// serverStream is a stream with a context of our own.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

// finish turns a panic or error into a status and writes the one log line of the call.
func (s *Server) finish(ctx context.Context, method string, began time.Time, panicked any, err error) error {
	took := time.Since(began)
	fields := []zap.Field{zap.String("method", method), zap.Duration("took", took)}
	if p, ok := peer.FromContext(ctx); ok {
		fields = append(fields, zap.String("peer", p.Addr.String()))
	}
	if who, ok := auth.From(ctx); ok {
		fields = append(fields, zap.String("who", who.Name))
	}
	log := logs.From(ctx, s.log)
	if panicked != nil {
		log.Error("call panicked", append(fields, zap.Any("panic", panicked), zap.ByteString("stack", debug.Stack()))...)
		err = fault.New(fault.Internal, "%s: internal defect; the server's log has its stack", method)
	}
	out := ToStatus(err)
	if s.cfg.Observer != nil {
		s.cfg.Observer.Call(method, status.Code(out).String(), took)
	}
	switch reason := fault.ReasonOf(err); {
	case panicked != nil || err == nil && quiet(method):
	case err == nil:
		log.Info("call", append(fields, zap.String("code", "OK"))...)
	case reason == fault.Internal:
		log.Error("call", append(fields, zap.String("code", string(reason)), zap.Error(err))...)
	default:
		log.Info("call", append(fields, zap.String("code", string(reason)), zap.String("why", err.Error()))...)
	}
	return out
}

// Listen opens a TCP listener; the error says what to do when the address is taken.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && strings.Contains(err.Error(), "in use") {
			return nil, fmt.Errorf("listen on %s: the address is in use; stop the other process or choose another with --listen: %w", addr, err)
		}
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}
