package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// children are the processes that this one has started and that run.
func children(t *testing.T) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("no /proc here")
	}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		line := string(data)
		_, after, _ := strings.Cut(line, ") ")
		if _, err := fmt.Sscan(line, &pid); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(after, &state, &parent); err != nil {
			t.Fatal(err)
		}
		if parent == os.Getpid() && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestEngineProcess has the models in a process of their own, which is killed and comes back, and ends with the app.
func TestEngineProcess(t *testing.T) {
	if got := (Config{Provider: "cuda"}).withDefaults().Engine; got != EngineProcess {
		t.Errorf("CUDA runs %s", got)
	}
	if got := (Config{}).withDefaults().Engine; got != EngineInline {
		t.Errorf("the CPU provider runs %s", got)
	}
	a := newApp(t, Config{Data: t.TempDir(), Models: models, Engine: EngineProcess})
	defer a.Close()
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	generator := generatorv1.NewGeneratorServiceClient(conn)
	r, err := generator.ListModels(t.Context(), &generatorv1.ListModelsRequest{})
	if err != nil || len(r.Models) != 1 || r.Models[0].Dimension != 256 || r.Models[0].Width != 32 {
		t.Fatalf("models %v, %v", r, err)
	}
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v; want one", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for len(children(t)) > 0 {
		time.Sleep(time.Millisecond)
	}
	again, err := generator.ListModels(t.Context(), &generatorv1.ListModelsRequest{})
	if err != nil || again.Models[0].Digest != r.Models[0].Digest {
		t.Errorf("after the process was killed: %v, %v", again, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes %v outlive the app", left)
	}
}
