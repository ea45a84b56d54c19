package test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/rpc"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// TestSecondSignal stops a process that has a minute for it, and is then told again: it ends at once, by the signal.
func TestSecondSignal(t *testing.T) {
	dir := t.TempDir()
	program := build(t, dir, "dreamood", "../cmd/dreamood")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			p := launch(t, dir, "dreamood", program, "serve", "--output", "json", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data"),
				"--models", "../models", "--drain-delay", "1m")
			p.address(t)
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			await(t, p, func() (bool, error) { return true, p.says("stopping") })
			began := time.Now()
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-p.ended:
				p.ended = nil
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != signal {
					t.Errorf("it ended with %v, want by the signal", err)
				}
				t.Logf("ended %s after the second signal", time.Since(began).Round(time.Millisecond))
			case <-time.After(10 * time.Second):
				t.Error("it still runs 10 s after the second signal")
			}
		})
	}
}

// says looks for words in the log of a process.
func (p *process) says(words string) error {
	text, err := os.ReadFile(p.log)
	if err == nil && !strings.Contains(string(text), words) {
		err = errors.New("the log does not say " + words)
	}
	return err
}

// abandonWork stops a process that has no time for its work to return, and starts another: the shard goes over at once,
// its attempt is not counted, and the pictures are the wanted ones. serve starts a process with further arguments.
func abandonWork(ctx context.Context, t *testing.T, serve func(args ...string) (*process, mesh), render func(m mesh, id string) *runv1.Run, want map[string]string) {
	t.Helper()
	p, m := serve("--drain-timeout", "1us")
	run := render(m, "abandoned")
	begun(ctx, t, m, run)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		p.ended = nil
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("a process whose work has not returned ended with %v, want exit code 1", err)
		}
	case <-time.After(stopWait):
		t.Fatalf("it still runs %s after SIGTERM", stopWait)
	}
	if err := p.says("shards of it are given back"); err != nil {
		t.Error(err)
	}
	began := time.Now()
	_, m = serve()
	end := wait(ctx, t, m.generator, run)
	if end.State != runv1.RunState_RUN_STATE_SUCCEEDED || end.Attempts != end.Shards {
		t.Errorf("%s ended as %v, %d shards took %d attempts: %v", end.Name, end.State, end.Shards, end.Attempts, end.Failure)
	}
	t.Logf("done %s after the next start", time.Since(began).Round(time.Millisecond))
	if got := list(ctx, t, m.generator, end.Result); !maps.Equal(got, want) {
		t.Error("the pictures are not those that nobody disturbed")
	}
}

// serving starts one process of all roles on a folder, again and again.
func serving(t *testing.T, dir, program, training string) func(args ...string) (*process, mesh) {
	return func(args ...string) (*process, mesh) {
		t.Helper()
		p := launch(t, dir, "dreamood", program, append([]string{"serve", "--output", "json", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"),
			"--models", "../models", "--dataset-root", "../sample", "--dataset-root", dir, "--drain-delay", "1s"}, args...)...)
		conn, err := rpc.Dial(p.address(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return p, mesh{conn, conn, conn, conn, training}
	}
}
