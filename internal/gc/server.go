package gc

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/fault"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
)

// minGrace is the least that a client may ask for: a worker needs some time between storing a blob and naming it.
const minGrace = time.Minute

// Server is the gRPC face of a Collector; every role serves it.
type Server struct {
	storev1.UnimplementedStoreServiceServer
	Collector *Collector
}

// CollectGarbage collects at once, whoever else does.
func (s Server) CollectGarbage(ctx context.Context, q *storev1.CollectGarbageRequest) (*storev1.CollectGarbageResponse, error) {
	grace := s.Collector.cfg.Grace
	if q.Grace != nil {
		if grace = q.Grace.AsDuration(); grace < minGrace {
			return nil, fault.Invalid("grace", "%s; want at least %s", grace, minGrace)
		}
	}
	r, err := s.Collector.Collect(ctx, grace, q.DryRun)
	if r == (Report{}) && err != nil {
		return nil, err
	}
	out := &storev1.CollectGarbageResponse{
		Live: proto(r.Live), Young: proto(r.Young), Trashed: proto(r.Trashed), Recalled: proto(r.Recalled), Removed: proto(r.Removed),
		Partial: proto(r.Partial), Checkpoints: proto(r.Checkpoints), Strange: proto(r.Strange),
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		out.Problems = strings.Split(err.Error(), "\n")
	}
	return out, nil
}

func proto(a artifact.Amount) *storev1.Amount { return &storev1.Amount{Count: a.Blobs, Bytes: a.Bytes} }
