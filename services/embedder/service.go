package embedder

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// KindTrainSpace is the kind of runs that train a space.
const KindTrainSpace = "train-space"

// stall is how long a shard may show no progress: the longest step is far shorter, even on a slow processor.
const stall = 30 * time.Minute

// Deps are what the role needs.
type Deps struct {
	Runs       *runs.Service
	Catalog    *catalog.Catalog
	Blobs      artifact.Store
	Datasets   dataset.Roots
	Vocabulary func(ctx context.Context, model string) (Vocabulary, error) // of a diffusion model, by name
	Log        *zap.Logger
}

// Service is the role.
type Service struct {
	embedderv1.UnimplementedEmbedderServiceServer
	cfg      Config
	deps     Deps
	spaces   catalog.Typed[*embedderv1.Space]
	encoders *infer.Cache
}

// New checks the configuration and makes the role.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("embedder: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps}
	s.spaces = catalog.NewTyped(deps.Catalog, ood.Spaces, func() *embedderv1.Space { return &embedderv1.Space{} })
	s.encoders = infer.NewCache(cfg.Encoders, cfg.ONNX, deps.Blobs)
	return s, nil
}

// Register puts the role on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { embedderv1.RegisterEmbedderServiceServer(r, s) }

// Planners look into requests that are submitted by others: steps of pipelines.
func (s *Service) Planners() map[string]runs.Planner {
	return map[string]runs.Planner{KindTrainSpace: s.plan}
}

// Run works off the queue until ctx ends, then frees the encoders.
func (s *Service) Run(ctx context.Context) error {
	defer s.encoders.Close()
	return s.deps.Runs.Serve(ctx, runs.Worker{
		Kind: KindTrainSpace, Concurrency: s.cfg.Workers, Stall: stall, Plan: s.plan, Work: s.work, Finish: s.finish,
	})
}
