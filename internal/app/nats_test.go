package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/gc"
	"github.com/dreamood/dreamood/internal/runs"
)

// kindsOf are the kinds that a role works on.
var kindsOf = map[string][]string{
	"embedder": {"train-space"}, "sampler": {"sample-set"}, "generator": {"render-set"}, "trainer": {"train-detector", "evaluate-detector"},
}

// secured is a NATS server outside with the configuration that is shipped.
func secured(t *testing.T, ackV2 bool) *server.Server {
	t.Helper()
	for role := range kindsOf {
		t.Setenv("NATS_"+strings.ToUpper(role)+"_PASSWORD", "pw-"+role)
	}
	options, err := server.ProcessConfigFile("../../deploy/nats-secure.conf")
	if err != nil {
		t.Fatal(err)
	}
	options.Host, options.Port, options.HTTPPort, options.HTTPHost = "127.0.0.1", server.RANDOM_PORT, 0, ""
	options.StoreDir, options.NoSigs, options.NoLog, options.SyncAlways = t.TempDir(), true, true, false
	if ackV2 {
		options.FeatureFlags = map[string]bool{server.FeatureFlagJsAckFormatV2: true}
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

func as(t *testing.T, s *server.Server, role string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{URL: strings.Replace(s.ClientURL(), "nats://", "nats://"+role+":pw-"+role+"@", 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestUsersOfNATS runs the queue as each role of a mesh, against the real server, with either form of acknowledgements.
func TestUsersOfNATS(t *testing.T) {
	for name, ackV2 := range map[string]bool{"acknowledgements as before": false, "acknowledgements as of 2.15": true} {
		t.Run(name, func(t *testing.T) {
			s := secured(t, ackV2)
			if _, err := bus.Open(t.Context(), bus.Config{URL: strings.Replace(s.ClientURL(), "nats://", "nats://sampler:wrong@", 1), ConnectWait: time.Second}); err == nil {
				t.Error("a wrong password is taken")
			}
			for role, own := range kindsOf {
				if ackV2 && role != "trainer" { // the form is the same for all; this one has two kinds
					continue
				}
				worksAs(t, as(t, s, role), role, own)
			}
		})
	}
}

func worksAs(t *testing.T, b *bus.Bus, role string, own []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	js := b.JetStream()
	service, err := runs.New(ctx, runs.Config{Kinds: kinds, Poll: 100 * time.Millisecond}, runs.Deps{JS: js})
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	defer service.Close()
	service.Start()
	documents, err := catalog.New(ctx, js, catalog.Config{})
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	if _, err := documents.Put(ctx, "sets", role, []byte("{}"), 0); err != nil {
		t.Errorf("%s writes a document: %v", role, err)
	}
	if _, _, err := documents.List(ctx, "sets", 0, ""); err != nil {
		t.Errorf("%s lists documents: %v", role, err)
	}
	if _, err := gc.New(ctx, gc.Config{}, gc.Deps{JS: js}); err != nil {
		t.Errorf("%s: %v", role, err)
	}
	for _, kind := range own {
		run, _, err := service.Submit(ctx, runs.Spec{Kind: kind, Shards: 3, Owner: role})
		if err != nil {
			t.Fatalf("%s submits %s: %v", role, kind, err)
		}
		working, stop := context.WithCancel(ctx)
		served := make(chan error, 1)
		go func() {
			served <- service.Serve(working, runs.Worker{Kind: kind, Work: func(context.Context, *runs.Task) ([]byte, error) { return nil, nil },
				Finish: func(context.Context, runs.Run) (string, error) { return "sets/x", nil }})
		}()
		err = service.Watch(ctx, run.ID, 0, func(e runs.Event) error { run = e.Run; return nil })
		stop()
		if err := errors.Join(err, <-served); err != nil || run.State != runs.Succeeded {
			t.Errorf("%s works on %s: %s, %v", role, kind, run.State, err)
		}
		// An acknowledgement that the server refused would leave the messages.
		stream, err := js.Stream(ctx, "dreamood-queue-"+kind)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := stream.Info(ctx); err != nil || info.State.Msgs != 0 {
			t.Errorf("%s has left %d messages of %s, %v", role, info.State.Msgs, kind, err)
		}
	}
	refused(t, b, role, own)
}

// refused looks at what a role may not do.
func refused(t *testing.T, b *bus.Bus, role string, own []string) {
	t.Helper()
	subjects := []string{"$JS.API.STREAM.DELETE.dreamood-events", "$JS.API.STREAM.DELETE.KV_dreamood-catalog", "$JS.API.STREAM.DELETE.nothing", "elsewhere", "$SYS.REQ.SERVER.PING"}
	for _, kind := range kinds {
		if !slices.Contains(own, kind) {
			subjects = append(subjects, "$JS.API.CONSUMER.MSG.NEXT.dreamood-queue-"+kind+".any",
				"$JS.ACK.dreamood-queue-"+kind+".any.1.1.1.1.0", "$JS.ACK._.hash.dreamood-queue-"+kind+".any.1.1.1.1.0")
		}
	}
	conn := b.Conn()
	for _, subject := range subjects {
		denied := make(chan error, 10)
		conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
		if err := conn.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := conn.FlushTimeout(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(subject)) {
				t.Errorf("%s sends to %s: %v", role, subject, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s may send to %s", role, subject)
		}
	}
}
