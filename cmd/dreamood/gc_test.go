package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/rpc"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
)

// dump is a store that has something to remove, and something that it cannot.
type dump struct {
	storev1.UnimplementedStoreServiceServer
	asked *storev1.CollectGarbageRequest
}

func (d *dump) CollectGarbage(_ context.Context, q *storev1.CollectGarbageRequest) (*storev1.CollectGarbageResponse, error) {
	d.asked = q
	r := &storev1.CollectGarbageResponse{Live: &storev1.Amount{Count: 12345, Bytes: 5 << 30}, Removed: &storev1.Amount{Count: 7, Bytes: 3 << 20}}
	if !q.DryRun {
		r.Problems = []string{"sweep: rename x: read-only file system"}
	}
	return r, nil
}

func TestGC(t *testing.T) {
	d := &dump{}
	server := rpc.NewServer(rpc.Config{DrainTimeout: time.Second}, zap.NewNop())
	storev1.RegisterStoreServiceServer(server, d)
	local := rpc.NewLocal()
	server.Start(local)
	defer func() { server.Stop(); <-server.Done() }()
	typed := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"gc"}, args...), &out, &errs, func(string) (*grpc.ClientConn, error) { return local.Dial() })
		return code, out.String(), errs.String()
	}
	code, out, errs := typed("--dry-run")
	if code != exitOK || !d.asked.DryRun || d.asked.Grace != nil || !strings.Contains(out, "12345") || !strings.Contains(out, "blobs to remove") {
		t.Errorf("exit code %d, asked for %v\n%s%s", code, d.asked, out, errs)
	}
	code, out, errs = typed("--grace", "90m")
	if code != exitFailed || d.asked.DryRun || d.asked.Grace.AsDuration() != 90*time.Minute || !strings.Contains(errs, "read-only") || !strings.Contains(out, "blobs removed") {
		t.Errorf("exit code %d, asked for %v\n%s%s", code, d.asked, out, errs)
	}
}
