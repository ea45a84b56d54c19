// Package bus is a connection to NATS with JetStream: to a server outside, given its URL, or to one that runs inside
// this process and keeps its streams in a folder.
//
// Nobody who holds a Bus can tell the two apart: the embedded server is the real one, reached over an in-memory
// connection.
package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// drainWait bounds how long Close waits for messages that are on their way.
	drainWait = 5 * time.Second
	// apiWait bounds one question to the server while opening.
	apiWait = 5 * time.Second
)

// Bus is a connection to JetStream. It is safe for concurrent use.
type Bus struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	server *embedded // nil with an outside server
	closed chan struct{}
	log    *zap.Logger
}

// Open connects to cfg.URL, or starts the embedded server and connects to that. A connection that breaks later is
// re-established for as long as it takes.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("bus configuration: %w", err)
	}
	b := &Bus{closed: make(chan struct{}), log: cfg.Log}
	if cfg.URL == "" {
		server, err := startEmbedded(cfg)
		if err != nil {
			return nil, err
		}
		b.server = server
	}
	if err := b.connect(ctx, cfg); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Conn is the NATS connection below.
func (b *Bus) Conn() *nats.Conn { return b.conn }

// JetStream is where streams, consumers and key-value buckets are.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }

// Embedded says whether the server runs in this process.
func (b *Bus) Embedded() bool { return b.server != nil }

// URL is where other processes reach the server; empty for an embedded one that does not listen.
func (b *Bus) URL() string {
	if b.server != nil {
		return b.server.url
	}
	return b.conn.ConnectedUrlRedacted()
}

// Close sends what is buffered, closes the connection and stops the embedded server, all within some seconds. Close
// what uses the bus first. Close twice is fine; not from two goroutines at once.
func (b *Bus) Close() {
	if b.conn != nil && !b.conn.IsClosed() {
		if err := b.conn.Drain(); err != nil { // not connected at present: nothing to wait for
			b.conn.Close()
		}
		select {
		case <-b.closed:
		case <-time.After(drainWait + time.Second):
			b.conn.Close()
			<-b.closed
		}
	}
	if b.server != nil {
		b.server.stop()
	}
}

func (b *Bus) connect(ctx context.Context, cfg Config) error {
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		nats.DrainTimeout(drainWait),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("nats disconnected, trying again", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			b.log.Info("nats reconnected", zap.String("url", conn.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			fields := []zap.Field{zap.Error(err)}
			if sub != nil {
				fields = append(fields, zap.String("subject", sub.Subject))
			}
			b.log.Warn("nats error", fields...)
		}),
	}
	options = append(options, credentials(cfg)...)
	if b.server != nil {
		options = append(options, nats.InProcessServer(b.server.nats))
	} else {
		options = append(options, nats.RetryOnFailedConnect(true))
	}
	conn, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", describe(cfg), err)
	}
	b.conn = conn
	if err := b.awaitConnected(ctx, cfg); err != nil {
		return err
	}
	if b.js, err = jetstream.New(conn); err != nil {
		return fmt.Errorf("connect to %s: %w", describe(cfg), err)
	}
	return b.probe(ctx, cfg)
}

// awaitConnected waits for the first connection, which RetryOnFailedConnect makes in the background.
func (b *Bus) awaitConnected(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectWait)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if b.conn.IsConnected() {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
			continue
		case <-b.closed:
		case <-ctx.Done():
		}
		tick.Stop()
		return b.unreachable(ctx, cfg)
	}
}

func (b *Bus) unreachable(ctx context.Context, cfg Config) error {
	last := b.conn.LastError()
	switch {
	case errors.Is(last, nats.ErrAuthorization) || errors.Is(last, nats.ErrAuthExpired) || errors.Is(last, nats.ErrAuthRevoked):
		return fmt.Errorf("%s refused the connection: %w; check the user, token or credentials file", describe(cfg), last)
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("connect to %s: %w", describe(cfg), ctx.Err())
	case last == nil:
		last = nats.ErrNoServers
	case strings.Contains(last.Error(), "tls") || strings.Contains(last.Error(), "x509"): // the client has no type for all of them
		return fmt.Errorf("%s: the encrypted connection failed: %w; check the authority (CA file) of the server's certificate, and that this client shows a certificate that the server knows",
			describe(cfg), last)
	}
	return fmt.Errorf("%s: no answer within %s (%w); is the server running with JetStream (nats-server -js)?",
		describe(cfg), cfg.ConnectWait, last)
}

// probe asks whether JetStream is there.
func (b *Bus) probe(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	_, err := b.js.AccountInfo(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: the server runs without JetStream; start it with -js: %w", describe(cfg), err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%s: JetStream is off for this account; enable it in the server's configuration: %w", describe(cfg), err)
	}
	return fmt.Errorf("%s: ask for JetStream: %w (the user needs the permission to publish $JS.API.INFO)", describe(cfg), err)
}

func credentials(cfg Config) []nats.Option {
	var options []nats.Option
	switch {
	case cfg.CredsFile != "":
		options = append(options, nats.UserCredentials(cfg.CredsFile))
	case cfg.Token != "":
		options = append(options, nats.Token(cfg.Token))
	case cfg.User != "":
		options = append(options, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.URL == "" { // in memory: nothing to encrypt
		return options
	}
	if cfg.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.CAFile))
	}
	if cfg.CertFile != "" {
		options = append(options, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	return options
}

// describe names the server in messages, without a password.
func describe(cfg Config) string {
	if cfg.URL == "" {
		return "the embedded NATS server in " + cfg.Dir
	}
	return redact(cfg.URL)
}
