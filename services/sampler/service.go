// Package sampler is the role that draws outlier and inlier embeddings (Dream-OOD, stage 2; Dream-ID): exactly, by
// K-th-neighbour distances over the bank of a class, and replayably, by counter-based random numbers.
//
// The science stands in method*.go, boundary.go, lowlikelihood.go and tune.go, which know nothing of transport.
package sampler

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// KindSampleSet is the kind of runs that sample a set.
const KindSampleSet = "sample-set"

// stall is how long a shard may show no progress: the longest step is far shorter, even on a slow processor.
const stall = time.Hour

// Deps are what the role needs.
type Deps struct {
	Runs     *runs.Service
	Catalog  *catalog.Catalog
	Blobs    artifact.Store // of sets; banks are taken from it where it has them and is an [artifact.Mapper]
	Embedder embedderv1.EmbedderServiceClient
	Log      *zap.Logger
}

// Service is the role.
type Service struct {
	samplerv1.UnimplementedSamplerServiceServer
	cfg      Config
	deps     Deps
	prepared *cache // classes, by everything that they depend on
	spaces   *banks // of whole spaces
	sets     catalog.Typed[*samplerv1.EmbeddingSet]
}

// New checks the configuration and makes the role.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps, prepared: newCache(cfg.Prepared), spaces: newBanks(cfg.BankBytes)}
	s.sets = catalog.NewTyped(deps.Catalog, ood.Embeddings, func() *samplerv1.EmbeddingSet { return &samplerv1.EmbeddingSet{} })
	return s, nil
}

// Register puts the role on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { samplerv1.RegisterSamplerServiceServer(r, s) }

// Planners look into requests that are submitted by others: steps of pipelines.
func (s *Service) Planners() map[string]runs.Planner {
	return map[string]runs.Planner{KindSampleSet: s.plan}
}

// Run works off the queue until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	return s.deps.Runs.Serve(ctx, runs.Worker{Kind: KindSampleSet, Concurrency: s.cfg.Workers, Stall: stall, Plan: s.plan, Work: s.work, Finish: s.finish})
}
