//go:build linux && (amd64 || arm64)

package onnx

import (
	"runtime"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// TestSessionsKeepTheSignalStack: a thread on which an OpenVINO session was
// made and closed still has the signal stack that Go gave it.
func TestSessionsKeepTheSignalStack(t *testing.T) {
	if !slices.Contains(Providers(), "openvino") {
		t.Skip("this ONNX Runtime has no OpenVINO provider")
	}
	model, err := onnxpb.Marshal(onnxpb.Model(&onnxpb.GraphProto{
		Name:   "relu",
		Input:  []*onnxpb.ValueInfoProto{onnxpb.Value("x", onnxpb.TensorProto_FLOAT, 4)},
		Output: []*onnxpb.ValueInfoProto{onnxpb.Value("y", onnxpb.TensorProto_FLOAT, 4)},
		Node:   []*onnxpb.NodeProto{onnxpb.Node("Relu", []string{"x"}, []string{"y"})},
	}, 0))
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	current := func() (s sigaltstackArg) {
		syscall.RawSyscall(syscall.SYS_SIGALTSTACK, 0, uintptr(unsafe.Pointer(&s)), 0)
		return s
	}
	before := current()
	s, err := NewSession(model, Config{Provider: "openvino"})
	if err != nil {
		t.Fatal(err)
	}
	if now := current(); now != before {
		t.Errorf("after NewSession the signal stack is %+v, it was %+v", now, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if now := current(); now != before {
		t.Errorf("after Close the signal stack is %+v, it was %+v", now, before)
	}
}
