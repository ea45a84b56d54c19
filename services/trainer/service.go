package trainer

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// Kinds of runs.
const (
	KindTrainDetector    = "train-detector"
	KindEvaluateDetector = "evaluate-detector"
)

// stall is how long a shard may show no progress: the longest step is far shorter, even on a slow processor.
const stall = 30 * time.Minute

// Deps are what the role needs.
type Deps struct {
	Runs      *runs.Service
	Catalog   *catalog.Catalog
	Blobs     artifact.Store
	Datasets  dataset.Roots
	Generator generatorv1.GeneratorServiceClient
	Log       *zap.Logger
}

// Service is the role.
type Service struct {
	trainerv1.UnimplementedTrainerServiceServer
	cfg       Config
	deps      Deps
	detectors versions
	models    *infer.Cache
	drift     *watcher
}

// New checks the configuration and makes the role.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps, models: infer.NewCache(cfg.Detectors, cfg.ONNX, deps.Blobs), drift: newWatcher(cfg.Detectors)}
	s.detectors = newVersions(deps.Catalog)
	return s, nil
}

// Register puts the role on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { trainerv1.RegisterTrainerServiceServer(r, s) }

// Planners look into requests that are submitted by others: steps of pipelines.
func (s *Service) Planners() map[string]runs.Planner {
	return map[string]runs.Planner{KindTrainDetector: s.planTraining, KindEvaluateDetector: s.planEvaluation}
}

// Run works off the queues until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.deps.Runs.Serve(ctx, runs.Worker{
			Kind: KindTrainDetector, Concurrency: s.cfg.Workers, Stall: stall, Plan: s.planTraining, Work: s.train, Finish: s.finish,
		})
	})
	g.Go(func() error {
		return s.deps.Runs.Serve(ctx, runs.Worker{
			Kind: KindEvaluateDetector, Concurrency: s.cfg.Workers, Stall: stall, Plan: s.planEvaluation, Work: s.evaluate, Finish: s.finishEvaluation,
		})
	})
	return g.Wait()
}

// Drift is how far from their calibrations the pictures lie that this process scored lately, one for each detector used.
func (s *Service) Drift() []Window { return s.drift.windows() }

// Close frees the detectors; call it when no call and no worker is under way.
func (s *Service) Close() { s.models.Close() }
