package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"time"

	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/logs"
)

// callHeader carries the id of a call: a client may choose it, the answer names it, and calls that a role makes for
// the call carry it on. It is call_id in the logs, and in google.rpc.RequestInfo of an error.
const callHeader = "x-request-id"

var callPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

type callKey struct{}

// withCall names a call that came in: by its client's id where that is one, else by a new one.
func withCall(ctx context.Context) (_ context.Context, id string) {
	if given := metadata.ValueFromIncomingContext(ctx, callHeader); len(given) == 1 && callPattern.MatchString(given[0]) {
		id = given[0]
	} else {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		id = hex.EncodeToString(b[:])
	}
	return logs.With(context.WithValue(ctx, callKey{}, id), zap.String("call_id", id)), id
}

// carryCall gives a call that goes out the id of the one that it is made for.
func carryCall(ctx context.Context) context.Context {
	if id, ok := ctx.Value(callKey{}).(string); ok {
		return metadata.AppendToOutgoingContext(ctx, callHeader, id)
	}
	return ctx
}

// named adds the id of the call to a status.
func named(err error, id string) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	if with, err := st.WithDetails(&errdetails.RequestInfo{RequestId: id}); err == nil {
		return with.Err()
	}
	return err
}

// Observer hears of every call that has ended, for metrics. It must not block.
type Observer interface {
	// Call of a full method name with the name of its gRPC code.
	Call(method, code string, took time.Duration)
}
