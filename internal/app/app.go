package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/engine"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/fit"
	"github.com/dreamood/dreamood/internal/gc"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/telemetry"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
	"github.com/dreamood/dreamood/services/generator"
	"github.com/dreamood/dreamood/services/trainer"
)

// surrenderWait bounds how long a process that has to end tries to give back its shards.
const surrenderWait = 5 * time.Second

// role is what a process runs: a gRPC service and a worker.
type role interface {
	Register(grpc.ServiceRegistrar)
	Run(context.Context) error
}

// App is a process with one or all roles.
type App struct {
	cfg     Config
	log     *zap.Logger
	bus     *bus.Bus
	runs    *runs.Service
	catalog *catalog.Catalog
	blobs   artifact.Store
	free    func() (int64, bool) // of the disk below them; nil: not known
	garbage *gc.Collector

	metrics   *telemetry.Metrics  // nil without a listener for them
	scraped   *telemetry.Listener // nil without
	serving   atomic.Bool         // calls and work are taken
	local     rpc.Local
	servers   []*rpc.Server
	listener  net.Listener
	tls       credentials.TransportCredentials // of the listener; nil: plain text
	auth      *rpc.Authenticator               // of the listener; nil: everybody may do everything
	roles     map[string]role
	generator atomic.Pointer[generator.Service] // the role, for the metrics; nil where it is another process
	engine    atomic.Pointer[engine.Supervisor] // of its models; nil where they are in this process
	trainer   atomic.Pointer[trainer.Service]   // the role, for the metrics; nil where it is another process
	closers   []func() error                    // in reverse order

	cancel  context.CancelFunc
	working *errgroup.Group
	failed  <-chan struct{} // closed when a role fails or Close begins
}

// New connects to NATS, opens the stores and makes the roles. Nothing is served before Start.
func New(ctx context.Context, cfg Config, log *zap.Logger) (*App, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, log: log, local: rpc.NewLocal(), roles: map[string]role{}}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) open(ctx context.Context) error {
	if err := onnx.Open(""); err != nil {
		return err
	}
	var err error
	a.bus, err = bus.Open(ctx, bus.Config{
		URL: a.cfg.NATS, Dir: filepath.Join(a.cfg.Data, "nats"), Listen: a.cfg.NATSListen, Name: "dreamood-" + a.cfg.Target, Log: a.log,
		CredsFile: a.cfg.NATSCreds, CAFile: a.cfg.NATSCA, CertFile: a.cfg.NATSCert, KeyFile: a.cfg.NATSKey,
	})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { a.bus.Close(); return nil })
	if err := a.openMetrics(); err != nil {
		return err
	}
	js := a.bus.JetStream()
	if a.catalog, err = catalog.New(ctx, js, catalog.Config{}); err != nil {
		return err
	}
	a.runs, err = runs.New(ctx, runs.Config{Kinds: kinds, QuotaRuns: a.cfg.QuotaRuns, QuotaShards: a.cfg.QuotaShards}, runs.Deps{
		JS: js, Log: a.log, Reason: func(err error) string { return string(fault.ReasonOf(err)) },
		Forget: func(_ context.Context, run runs.Run) error {
			return errors.Join(fit.Remove(fit.Path(a.checkpoints(), run.Origin)), generator.RemoveCheckpoints(a.checkpoints(), run.Origin))
		},
		Tracer: a.tracer(), Observer: a.runObserver(),
	})
	if err != nil {
		return err
	}
	a.sample()
	store, err := a.openBlobs(ctx)
	if err != nil {
		return err
	}
	a.garbage, err = gc.New(ctx, gc.Config{Every: a.cfg.GCEvery, Grace: a.cfg.GCGrace, Checkpoints: a.checkpoints()}, gc.Deps{
		JS: js, Runs: a.runs, Catalog: a.catalog, Blobs: store, Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.build(); err != nil {
		return err
	}
	if a.cfg.Listen == "" {
		return nil
	}
	if err := a.secure(); err != nil {
		return err
	}
	if a.listener, err = rpc.Listen(a.cfg.Listen); err != nil {
		return err
	}
	a.closers = append(a.closers, func() error {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) { // the server that served it has closed it
			return err
		}
		return nil
	})
	return nil
}

// Start serves the roles and begins to work off the queues, once the generator's default model has rendered a picture.
func (a *App) Start(ctx context.Context) error {
	if g := a.generator.Load(); g != nil {
		g.Warm(ctx)
	}
	a.runs.Start()
	inside := rpc.Config{
		Followers: []string{runv1.RunService_WatchRun_FullMethodName, longrunningpb.Operations_WaitOperation_FullMethodName},
		Tracing:   a.cfg.Tracing, Observer: a.callObserver(),
	}
	outside := inside
	if a.cfg.Authenticates() {
		inside.Auth = &rpc.Authenticator{Everybody: itself}
	}
	listeners := []net.Listener{a.local}
	if a.listener != nil {
		listeners = append(listeners, a.listener)
		outside.TLS, outside.Auth = a.tls, a.auth
	}
	for i, l := range listeners {
		s := rpc.NewServer([]rpc.Config{inside, outside}[i], a.log)
		face := runs.Server{Runs: a.runs, Pipelines: a.pipelines()}
		runv1.RegisterRunServiceServer(s, face)
		longrunningpb.RegisterOperationsServer(s, runs.Operations{Server: face})
		storev1.RegisterStoreServiceServer(s, gc.Server{Collector: a.garbage})
		for _, r := range a.roles {
			r.Register(s)
		}
		s.Start(l)
		a.servers = append(a.servers, s)
	}
	ctx, a.cancel = context.WithCancel(context.Background())
	a.working, ctx = errgroup.WithContext(ctx)
	a.failed = ctx.Done()
	for _, s := range a.servers {
		a.working.Go(func() error {
			select {
			case err := <-s.Done(): // before Close stops it
				return fmt.Errorf("serve gRPC: %w", err)
			case <-ctx.Done():
				return nil
			}
		})
	}
	a.working.Go(func() error { a.garbage.Run(ctx, a.cfg.Target); return nil })
	for name, r := range a.roles {
		a.working.Go(func() error {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	a.serving.Store(true)
	a.log.Info("started", zap.String("target", a.cfg.Target), zap.String("listen", a.Addr()), zap.Bool("embedded_nats", a.bus.Embedded()),
		zap.String("onnxruntime", onnx.Version()), zap.Strings("providers", onnx.Providers()))
	return nil
}

// Addr is the address that is served over TCP; "" when there is none.
func (a *App) Addr() string {
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

// Dial connects inside the process to all roles of this app.
func (a *App) Dial() (*grpc.ClientConn, error) { return a.local.Dial(rpc.Traced(a.cfg.Tracing)) }

// Wait waits until ctx ends or a role fails, then closes. Asked to stop, it says so to health checks at once and goes
// on for Config.DrainDelay, in which those that send calls here learn of it.
func (a *App) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		a.log.Info("stopping", zap.String("target", a.cfg.Target), zap.Duration("drain_delay", a.cfg.DrainDelay))
		a.retire()
		select {
		case <-time.After(a.cfg.DrainDelay):
		case <-a.failed:
		}
	case <-a.failed:
	}
	err := a.Close()
	a.log.Info("stopped", zap.String("target", a.cfg.Target), zap.Error(err))
	return err
}

// retire is no longer ready, and goes on serving.
func (a *App) retire() {
	a.serving.Store(false)
	for _, s := range a.servers {
		s.Retire()
	}
}

// Close stops in the order that loses nothing: health checks are told, no more work is taken and what is under way is
// given back to the queue, calls under way end, then the connections and stores are closed. It returns the error of the
// role that failed, if one did.
//
// Work that does not return within Config.DrainTimeout is left alone, with everything that it may use: its shards are
// given back all the same, and the process has to end.
func (a *App) Close() error {
	a.retire()
	var err error
	if a.cancel != nil {
		a.cancel()
		returned := make(chan error, 1)
		go func() { returned <- a.working.Wait() }()
		a.cancel = nil
		select {
		case err = <-returned:
		case <-time.After(a.cfg.DrainTimeout):
			ctx, cancel := context.WithTimeout(context.Background(), surrenderWait)
			defer cancel()
			given := a.runs.Surrender(ctx)
			a.servers, a.runs, a.closers = nil, nil, nil
			return fmt.Errorf("work did not return within %s of the stop; %d shards of it are given back and count no attempt", a.cfg.DrainTimeout, given)
		}
	}
	for _, s := range a.servers {
		s.Stop()
	}
	a.servers = nil
	return errors.Join(err, a.close())
}

func (a *App) close() error {
	if a.runs != nil {
		a.runs.Close()
		a.runs = nil
	}
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}
