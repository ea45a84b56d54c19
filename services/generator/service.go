package generator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// KindRenderSet is the kind of runs that render a set.
const KindRenderSet = "render-set"

// stall is how long a shard may show no progress: the longest step is far shorter, even on a slow processor.
const stall = 15 * time.Minute

// Deps are what the role needs.
type Deps struct {
	Runs     *runs.Service
	Catalog  *catalog.Catalog
	Blobs    artifact.Store
	Datasets dataset.Roots // where pictures to begin with may lie
	Embedder embedderv1.EmbedderServiceClient
	Sampler  samplerv1.SamplerServiceClient
	Trainer  trainerv1.TrainerServiceClient   // of the detectors of gates; nil: there are none
	Free     func() (bytes int64, known bool) // where blobs are kept; nil: not known
	Log      *zap.Logger
	// Open loads the model in a folder; nil loads it into this process, by Config.Pipeline.
	Open func(dir string) (Pipeline, error)
}

// Service is the role.
type Service struct {
	generatorv1.UnimplementedGeneratorServiceServer
	cfg    Config
	deps   Deps
	sets   catalog.Typed[*generatorv1.Set]
	banks  heldBanks
	models *models
	queue  *queue // of RenderOutliers
}

// New checks the configuration and makes the role. Models are loaded when they are first needed.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	if deps.Open == nil {
		deps.Open = func(dir string) (Pipeline, error) { return diffusion.Open(dir, cfg.Pipeline) }
	}
	s := &Service{cfg: cfg, deps: deps, models: newModels(cfg.Models, deps.Open), queue: newQueue(cfg.Limits)}
	s.models.tell = s.note
	s.sets = catalog.NewTyped(deps.Catalog, ood.Sets, func() *generatorv1.Set { return &generatorv1.Set{} })
	return s, nil
}

// Register puts the role on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	generatorv1.RegisterGeneratorServiceServer(r, s)
}

// Planners look into requests that are submitted by others: steps of pipelines.
func (s *Service) Planners() map[string]runs.Planner {
	return map[string]runs.Planner{KindRenderSet: s.plan}
}

// Warm loads the default model, where it is there, and has it render a first picture. A model that cannot be used is
// logged, and the others are served.
func (s *Service) Warm(ctx context.Context) {
	if names, err := s.models.names(); err == nil && slices.Contains(names, s.cfg.Model) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s.models.get(ctx, s.cfg.Model) // note tells of it
	}
}

// ModelStates counts the models that were used, by state.
func (s *Service) ModelStates() map[string]int { return s.models.states() }

// note logs what happened to a model.
func (s *Service) note(name string, c change) {
	log := s.deps.Log.With(zap.String("model", name))
	switch {
	case c.err != nil:
		log.Error("model cannot be used; one that was loaded before goes on", zap.Duration("took", c.took), zap.Error(c.err))
	default:
		log.Info("model "+c.what, zap.String("digest", c.digest), zap.Duration("took", c.took))
	}
}

// Run works off the queue, and replaces models whose files change, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() { s.models.watch(ctx) })
	return s.deps.Runs.Serve(ctx, runs.Worker{Kind: KindRenderSet, Concurrency: s.cfg.Workers, Stall: stall, Plan: s.plan, Work: s.work, Finish: s.finish, Abandon: s.abandon})
}

// Close frees the models; call it when no call and no worker is under way.
func (s *Service) Close() error {
	return errors.Join(s.models.close()...)
}
