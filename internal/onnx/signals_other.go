//go:build !(linux && (amd64 || arm64))

package onnx

// keepSignalStack guards against OpenVINO on Linux; see signals_linux.go.
func keepSignalStack(f func() error) error { return f() }
