package bus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/dreamood/dreamood/internal/bus"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BUS_TEST_HOLD"); dir != "" {
		hold(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// hold is the other process of TestDirOfAnotherProcess: it opens the folder and waits for the end of its input.
func hold(dir string) {
	b, err := bus.Open(context.Background(), bus.Config{Dir: dir, NoSync: true})
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("open\n")
	os.Stdin.Read(make([]byte, 1))
	b.Close()
}

func open(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.NoSync = true
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestEmbeddedKeepsMessages(t *testing.T) {
	dir := t.TempDir()
	b := open(t, bus.Config{Dir: dir})
	if !b.Embedded() || b.URL() != "" {
		t.Errorf("embedded %v, url %q: want an embedded server without a URL", b.Embedded(), b.URL())
	}
	if _, err := b.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "keep", Subjects: []string{"keep"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().Publish(t.Context(), "keep", []byte("dream")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close() // harmless

	again := open(t, bus.Config{Dir: dir})
	stream, err := again.JetStream().Stream(t.Context(), "keep")
	if err != nil {
		t.Fatal(err)
	}
	message, err := stream.GetLastMsgForSubject(t.Context(), "keep")
	if err != nil || string(message.Data) != "dream" {
		t.Fatalf("message after a restart: %v, %v", message, err)
	}
}

func TestDirTakenTwice(t *testing.T) {
	dir := t.TempDir()
	first := open(t, bus.Config{Dir: dir})
	if _, err := bus.Open(t.Context(), bus.Config{Dir: dir}); !errors.Is(err, bus.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second server on one folder: %v", err)
	}
	first.Close()
	open(t, bus.Config{Dir: dir})
}

func TestDirOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "BUS_TEST_HOLD="+dir)
	other.Stderr = os.Stderr
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_, err = bus.Open(t.Context(), bus.Config{Dir: dir})
	if !errors.Is(err, bus.ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("folder of another process: %v", err)
	}
	stdin.Close()
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	open(t, bus.Config{Dir: dir})
}

func TestListen(t *testing.T) {
	cfg := bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", User: "mesh", Password: "pw"}
	b := open(t, cfg)
	remote := open(t, bus.Config{URL: b.URL(), User: "mesh", Password: "pw"})
	if remote.Embedded() {
		t.Error("a connection by URL is not embedded")
	}
	if _, err := remote.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"}); err != nil {
		t.Error(err)
	}
	_, err := bus.Open(t.Context(), bus.Config{URL: b.URL(), User: "mesh", Password: "wrong", ConnectWait: 3 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestListenPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), Listen: listener.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("taken port: %v", err)
	}
}

func TestNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://me:secret@" + listener.Addr().String()
	listener.Close()
	start := time.Now()
	_, err = bus.Open(t.Context(), bus.Config{URL: url, ConnectWait: 300 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") || !strings.Contains(err.Error(), "-js") {
		t.Errorf("no server: %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in the message: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("gave up after %s", took)
	}
}

func TestServerWithoutJetStream(t *testing.T) {
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	plain.Start()
	defer plain.WaitForShutdown()
	defer plain.Shutdown()
	if !plain.ReadyForConnections(5 * time.Second) {
		t.Fatal("server is not ready")
	}
	_, err = bus.Open(t.Context(), bus.Config{URL: plain.ClientURL()})
	if err == nil || !strings.Contains(err.Error(), "without JetStream") {
		t.Errorf("server without JetStream: %v", err)
	}
}

func TestUnusableDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Open(t.Context(), bus.Config{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as folder: %v", err)
	}
}

func TestConfigProblemsAtOnce(t *testing.T) {
	_, err := bus.Open(t.Context(), bus.Config{URL: "nats://x", Listen: "nonsense", User: "u", Token: "t", CertFile: "no-such.pem"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"only the embedded", "host:port", "user and password", "token or a user", "go together", "no-such.pem"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
}
