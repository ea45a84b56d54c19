package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/rpc"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// TestStoryInFourProcesses tells the same story to four processes of the real program and a NATS server of its own,
// and then kills one of them.
func TestStoryInFourProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for some minutes")
	}
	p := startProcesses(t)
	m := mesh{p.dial(t, "embedder"), p.dial(t, "sampler"), p.dial(t, "generator"), p.dial(t, "trainer"), trainingSet(t, p.dir)}
	end := story(t, m)
	if t.Failed() {
		return // a kill would only hide why
	}
	killGenerator(t, m, p, end)
}

// processes are a mesh: one process per role, which share a NATS server and a data folder.
type processes struct {
	dir, program, nats, data string
	roles                    map[string]*process
	addresses                map[string]string
	traced                   string // a role whose processes killAt kills
}

func startProcesses(t *testing.T) *processes {
	dir := t.TempDir()
	p := &processes{
		dir: dir, program: build(t, dir, "dreamood", "../cmd/dreamood"), data: filepath.Join(dir, "data"),
		roles: map[string]*process{}, addresses: map[string]string{},
	}
	p.nats = startNATS(t, dir)
	for _, role := range []string{"embedder", "sampler", "generator", "trainer"} {
		p.start(t, role, "127.0.0.1:0")
	}
	return p
}

// peers are the roles that a role calls.
var peers = map[string][]string{"sampler": {"embedder"}, "generator": {"embedder", "sampler"}, "trainer": {"generator"}}

// start runs one role and waits until it serves.
func (p *processes) start(t *testing.T, role, listen string) {
	t.Helper()
	args := []string{"serve", "--output", "json", "--target", role, "--listen", listen, "--nats", p.nats,
		"--data", p.data, "--models", "../models", "--dataset-root", "../sample", "--dataset-root", p.dir}
	for _, peer := range peers[role] {
		args = append(args, "--"+peer, p.addresses[peer])
	}
	p.roles[role] = begin(t, p.dir, role, p.program, args...)
	if role != p.traced {
		p.roles[role].watch()
	}
	p.addresses[role] = p.roles[role].address(t)
}

func (p *processes) dial(t *testing.T, role string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(p.addresses[role])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// startNATS runs the stock NATS server with JetStream on a free port and returns its URL.
func startNATS(t *testing.T, dir string) string {
	t.Helper()
	program := build(t, dir, "nats-server", "github.com/nats-io/nats-server/v2")
	p := launch(t, dir, "nats", program, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", filepath.Join(dir, "jetstream"), "--ports_file_dir", dir)
	return await(t, p, func() (string, error) {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("nats-server_%d.ports", p.cmd.Process.Pid)))
		if err != nil {
			return "", err
		}
		var ports struct{ NATS []string }
		if err := json.Unmarshal(text, &ports); err != nil {
			return "", err
		}
		if len(ports.NATS) == 0 {
			return "", errors.New("it does not listen yet")
		}
		return ports.NATS[0], nil
	})
}

// killGenerator kills the generator in the middle of a set and starts it again. The set must become what it is
// without that: told.pictures, which were rendered with the same settings.
func killGenerator(t *testing.T, m mesh, p *processes, told ending) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	client := generatorv1.NewGeneratorServiceClient(m.generator)
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{
		SetId: "killed", Space: told.space.Name, PerClass: perClass, Rendering: rendering(), RequestId: "killed",
	})
	if err != nil {
		t.Fatal(err)
	}
	// Every role shows every run: the trainer goes on telling of this one when the generator is dead.
	midway(ctx, t, m.trainer, r.Run)
	p.roles["generator"].kill()
	t.Log("the generator is killed")
	now, err := runv1.NewRunServiceClient(m.trainer).GetRun(ctx, &runv1.GetRunRequest{Name: r.Run.Name})
	if err != nil || now.Run.State != runv1.RunState_RUN_STATE_RUNNING || now.Run.ShardsDone >= now.Run.Shards {
		t.Fatalf("after the kill the run is %v, %v; it should be under way", now.GetRun(), err)
	}
	p.start(t, "generator", p.addresses["generator"])

	set := succeed(ctx, t, m.trainer, r.Run)
	if got := list(ctx, t, m.generator, set); !maps.Equal(got, told.pictures) {
		t.Errorf("%s differs from the set that nobody disturbed:\n%v\n%v", set, got, told.pictures)
	}
}

// midway waits until a run has committed a shard and begun another one.
func midway(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, run *runv1.Run) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := runv1.NewRunServiceClient(conn).WatchRun(ctx, &runv1.WatchRunRequest{Name: run.Name})
	if err != nil {
		t.Fatal(err)
	}
	for committed := int64(-1); ; {
		e, err := stream.Recv()
		if err != nil {
			t.Fatalf("watch %s: %v", run.Name, err)
		}
		switch {
		case e.Run.ShardsDone == 0:
		case committed < 0:
			committed = e.Run.Progress.Done
		case e.Run.Progress.Done > committed:
			return
		}
	}
}
