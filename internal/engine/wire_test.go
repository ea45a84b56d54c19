package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
)

// TestErrorsAreRecognised sends an error over gRPC and back.
func TestErrorsAreRecognised(t *testing.T) {
	sent := rpc.ToStatus(fmt.Errorf("render: model.onnx: picture 3 of the batch: %w", diffusion.ErrNotFinite))
	if back := recognised(rpc.FromStatus(sent)); !errors.Is(back, diffusion.ErrNotFinite) || fault.ReasonOf(back) != fault.ReasonOf(sent) {
		t.Errorf("%v, %s", back, fault.ReasonOf(back))
	}
	if back := recognised(rpc.FromStatus(rpc.ToStatus(errors.New("something else")))); errors.Is(back, diffusion.ErrNotFinite) {
		t.Errorf("%v", back)
	}
	if recognised(nil) != nil {
		t.Error("no error became one")
	}
}
