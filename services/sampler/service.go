// Package sampler is the role that draws outlier and inlier embeddings (Dream-OOD, stage 2; Dream-ID): exactly, by
// K-th-neighbour distances over the bank of a class, and replayably, by counter-based random numbers.
//
// The science stands in method*.go, boundary.go and lowlikelihood.go, which know nothing of transport.
package sampler

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// Deps are what the role needs.
type Deps struct {
	Embedder embedderv1.EmbedderServiceClient
	Log      *zap.Logger
}

// Service is the role.
type Service struct {
	samplerv1.UnimplementedSamplerServiceServer
	cfg      Config
	deps     Deps
	prepared *cache
}

// New checks the configuration and makes the role.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	return &Service{cfg: cfg, deps: deps, prepared: newCache(cfg.Prepared)}, nil
}

// Register puts the role on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { samplerv1.RegisterSamplerServiceServer(r, s) }

// Run waits for ctx: the sampler has no queue of its own.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
