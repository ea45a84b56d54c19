package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// askWait bounds one question to the queue.
const askWait = 5 * time.Second

// Service submits, shows, steers and serves runs. It is safe for concurrent use; several processes share the same runs.
type Service struct {
	cfg     Config
	js      jetstream.JetStream
	log     *zap.Logger
	now     func() time.Time // by the server's clock
	machine func() time.Time // by this machine's
	clock   clock
	reason  func(error) string
	forgets func(context.Context, Run) error
	at      func(point string) // nil but in tests

	tracer  trace.Tracer
	observe Observer
	active  sync.Map // *activity of every attempt under way
	leases  sync.Map // *lease of every attempt under way

	born time.Time // sets the beat of progress reports; another one in each process

	docs    jetstream.KeyValue // run.<id>, request.<hash>
	ledger  *ledger            // writes run.<id>
	hub     *hub               // hears events
	readers chan struct{}      // holds one of each watcher that reads old events
	events  jetstream.Stream
	dead    jetstream.Stream // see dead.go

	mu     sync.Mutex
	queues map[string]*queue // by kind
	voices map[string]*voice // by run
	ends   []string          // runs whose end was told, the oldest first
	rates  rates

	stop context.CancelFunc // of the reconciler; nil before Start
	done chan struct{}

	swept time.Time // when the reconciler last looked for the messages of ended runs
}

// New makes the streams and the bucket where they are missing. Call Start to have lost messages put back, and Close at
// the end.
func New(ctx context.Context, cfg Config, deps Deps) (*Service, error) {
	cfg, deps = cfg.withDefaults(), deps.withDefaults()
	err := cfg.validate()
	if deps.JS == nil {
		err = errors.Join(err, errors.New("no JetStream given"))
	}
	if err != nil {
		return nil, fmt.Errorf("runs configuration: %w", err)
	}
	s := &Service{
		cfg: cfg, js: deps.JS, log: deps.Log, reason: deps.Reason, forgets: deps.Forget, at: deps.Point, queues: map[string]*queue{}, voices: map[string]*voice{},
		tracer: deps.Tracer, observe: deps.Observer,
		machine: deps.Clock,
	}
	s.now = s.serverTime
	s.born = time.Now()
	s.rates.fresh, s.rates.written = map[string]tally{}, map[string]time.Time{}
	s.ledger = &ledger{s: s, pages: map[string]*page{}}
	s.hub, s.readers = &hub{s: s, ears: map[string]map[*ear]bool{}}, make(chan struct{}, readers)
	s.docs, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Name + "-runs", Description: "dreamood: state of runs, and the request ids that made them",
		History: 1, Replicas: cfg.Replicas, LimitMarkerTTL: tombstone,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket of runs: %w", err)
	}
	s.events, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: cfg.Name + "-events", Description: "dreamood: changes of runs, one subject each",
		Subjects: []string{cfg.Name + ".event.*"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: cfg.EventAge, MaxMsgsPerSubject: int64(cfg.EventsPerRun), Replicas: cfg.Replicas,
		Duplicates: min(dedupWindow, cfg.EventAge), AllowDirect: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream of run events: %w", err)
	}
	if err := s.askTime(ctx); err != nil {
		return nil, err
	}
	if err := s.openDead(ctx); err != nil {
		return nil, err
	}
	for _, kind := range cfg.Kinds {
		if _, err := s.queue(ctx, kind); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Start lets the reconciler run until Close: it looks at once and then regularly for shards that wait without a message
// in the queue. Started twice it still runs once.
func (s *Service) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			if err := s.reconcile(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("reconcile runs", zap.Error(err))
			}
			sleep(ctx, jitter(s.cfg.ReconcileEvery))
		}
	}()
}

// Close stops the reconciler and waits for it. Serve and Watch end with their own contexts.
func (s *Service) Close() {
	s.mu.Lock()
	stop, done := s.stop, s.done
	s.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// openQueues returns the queues that this process has opened.
func (s *Service) openQueues() []*queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.queues))
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
