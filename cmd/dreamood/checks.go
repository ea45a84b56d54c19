package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/onnx"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

const (
	checkWait   = 3 * time.Second
	fewMemory   = 2 << 30 // bytes; training on the samples needs about half of it
	fewSpace    = 2 << 30
	megabyteCut = 1 << 20
)

func checkProgram() finding {
	return finding{Check: "dreamood", Grade: good, Found: fmt.Sprintf("%s, %s, %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)}
}

func checkMachine() finding {
	f := finding{Check: "machine", Grade: good, Found: fmt.Sprintf("%d cores, %d used", runtime.NumCPU(), runtime.GOMAXPROCS(0))}
	if total := memory(); total > 0 {
		f.Found += ", " + size(total) + " memory"
		if total < fewMemory {
			f.Grade, f.Remedy = note, "less than 2 GiB is tight; use small batches (--batch 32)"
		}
	}
	return f
}

// checkEngine looks for ONNX Runtime and opens it.
func checkEngine() []finding {
	path, err := onnx.Locate()
	if err == nil {
		err = onnx.Open(path)
	}
	if err != nil {
		return []finding{{Check: "onnxruntime", Grade: missing, Found: err.Error(),
			Remedy: "run `make setup`, which fetches it, or set " + onnx.LibraryEnv + " to the shared library"}}
	}
	providers := onnx.Providers()
	f := []finding{
		{Check: "onnxruntime", Grade: good, Found: fmt.Sprintf("%s at %s", onnx.Version(), path)},
		{Check: "providers", Grade: good, Found: strings.Join(providers, ", ")},
	}
	if len(providers) == 1 {
		f[1].Remedy = "fine; a build with OpenVINO is about twice as fast on Intel CPUs, one with CUDA much faster on a GPU"
		f[1].Grade = note
	}
	return f
}

// checkData looks whether the data folder can be written, without making it.
func checkData(dir string) finding {
	f := finding{Check: "data", Grade: good}
	at := dir
	for {
		_, err := os.Stat(at)
		parent := filepath.Dir(at)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || parent == at {
			break
		}
		at = parent
	}
	probe, err := os.CreateTemp(at, ".dreamood-doctor-*")
	if err != nil {
		f.Grade, f.Found = missing, fmt.Sprintf("%s cannot be written: %v", dir, err)
		f.Remedy = "give it to the user who runs dreamood, or name another folder with --data"
		return f
	}
	probe.Close()
	os.Remove(probe.Name())
	f.Found = dir + " can be written"
	if at != dir {
		f.Found = dir + " can be made"
	}
	var st unix.Statfs_t
	if unix.Statfs(at, &st) == nil {
		free := st.Bavail * uint64(st.Bsize)
		f.Found += ", " + size(free) + " free"
		if free < fewSpace {
			f.Grade, f.Remedy = note, "less than 2 GiB is little for sets and checkpoints; free some, or name another folder with --data"
		}
	}
	return f
}

func checkNATS(ctx context.Context, url string) finding {
	if url == "" {
		return finding{Check: "nats", Grade: good, Found: "embedded; serve starts it (name an outside one with --nats)"}
	}
	b, err := bus.Open(ctx, bus.Config{URL: url, Name: "dreamood-doctor", ConnectWait: checkWait})
	if err != nil {
		return finding{Check: "nats", Grade: missing, Found: err.Error(), Remedy: "start it with JetStream: nats-server -js, or leave --nats away to use the embedded one"}
	}
	defer b.Close()
	return finding{Check: "nats", Grade: good, Found: b.URL() + " answers, with JetStream"}
}

// checkServer asks a server for its health. One that is neither needed nor named need not be there.
func (s *Session) checkServer(ctx context.Context, needed bool) finding {
	f := finding{Check: "server", Grade: good, Found: s.Server}
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	health, err := client(s, healthpb.NewHealthClient)
	if err == nil {
		var answer *healthpb.HealthCheckResponse
		answer, err = health.Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil && answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			err = fmt.Errorf("%s says %s", s.Server, answer.GetStatus())
		}
	}
	if err != nil {
		f.Found, f.Remedy = fmt.Sprintf("none at %s: %s", s.Server, brief(err)), "start one with `dreamood serve`, or say where it is with --server"
		if f.Grade = note; needed || s.Server != defaultServer {
			f.Grade = missing
		}
		return f
	}
	var roles []string
	for _, role := range []struct{ name, service string }{
		{"embedder", embedderv1.EmbedderService_ServiceDesc.ServiceName},
		{"sampler", samplerv1.SamplerService_ServiceDesc.ServiceName},
		{"generator", generatorv1.GeneratorService_ServiceDesc.ServiceName},
		{"trainer", trainerv1.TrainerService_ServiceDesc.ServiceName},
	} {
		answer, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: role.service})
		switch {
		case err == nil && answer.GetStatus() == healthpb.HealthCheckResponse_SERVING:
			roles = append(roles, role.name)
		case err != nil && fault.ReasonOf(err) != fault.NotFound:
			roles = append(roles, role.name+" ("+err.Error()+")")
		}
	}
	f.Found = fmt.Sprintf("%s serves: %s", s.Server, or(strings.Join(roles, ", "), "no role"))
	return f
}
