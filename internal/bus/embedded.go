package bus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// startWait bounds the start of the embedded server; recovery of a large store takes a while.
const startWait = 60 * time.Second

// embedded is a NATS server inside this process.
type embedded struct {
	nats *server.Server
	url  string
	lock *os.File
}

// startEmbedded locks cfg.Dir and starts a JetStream server on it.
func startEmbedded(cfg Config) (*embedded, error) {
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder of the embedded NATS server: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{lock: lock}
	if err := e.start(cfg); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

func (e *embedded) start(cfg Config) error {
	options, err := serverOptions(cfg)
	if err != nil {
		return err
	}
	if e.nats, err = server.NewServer(options); err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	log := &serverLog{log: cfg.Log.Named("nats")}
	e.nats.SetLoggerV2(log, false, false, false)
	e.nats.Start()
	if fatal := log.fatal(); fatal != nil {
		return fmt.Errorf("embedded NATS server in %s: %w", cfg.Dir, fatal)
	}
	if !e.nats.ReadyForConnections(startWait) {
		return fmt.Errorf("embedded NATS server in %s: not ready within %s: %w", cfg.Dir, startWait, log.fatal())
	}
	if !e.nats.JetStreamEnabled() {
		return fmt.Errorf("embedded NATS server in %s: JetStream did not start: %w", cfg.Dir, log.fatal())
	}
	if cfg.Listen != "" {
		e.url = e.nats.ClientURL()
	}
	return nil
}

// stop shuts the server down, waits for it, and gives the folder back.
func (e *embedded) stop() {
	if e.nats != nil {
		e.nats.Shutdown()
		e.nats.WaitForShutdown()
		e.nats = nil
	}
	if e.lock != nil {
		e.lock.Close() // releases the lock
		e.lock = nil
	}
}

func serverOptions(cfg Config) (*server.Options, error) {
	options := &server.Options{
		ServerName:             "dreamood",
		DontListen:             cfg.Listen == "",
		JetStream:              true,
		StoreDir:               filepath.Clean(cfg.Dir),
		SyncAlways:             !cfg.NoSync,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		Username:               cfg.User,
		Password:               cfg.Password,
		Authorization:          cfg.Token,
	}
	if cfg.Listen == "" {
		return options, nil
	}
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	options.Host, options.Port = host, port
	if port == 0 {
		options.Port = server.RANDOM_PORT
	}
	if cfg.CertFile == "" {
		return options, nil
	}
	options.TLSConfig, err = server.GenTLSConfig(&server.TLSConfigOpts{
		CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, CaFile: cfg.CAFile, Verify: cfg.CAFile != "",
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	options.TLSConfig.MinVersion = tls.VersionTLS12
	options.TLS, options.TLSVerify, options.TLSTimeout = true, cfg.CAFile != "", 5
	return options, nil
}

// serverLog hands the server's warnings to zap and keeps its fatal errors, which it only logs.
type serverLog struct {
	log    *zap.Logger
	mu     sync.Mutex
	fatals []string
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fatals) == 0 {
		return nil
	}
	return errors.New(strings.Join(l.fatals, "; "))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatals = append(l.fatals, fmt.Sprintf(format, v...))
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}

// redact removes passwords from a list of URLs.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		if parsed, err := url.Parse(strings.TrimSpace(part)); err == nil {
			parts[i] = parsed.Redacted()
		}
	}
	return strings.Join(parts, ",")
}
