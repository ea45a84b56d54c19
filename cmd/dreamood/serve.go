package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/app"
	"github.com/dreamood/dreamood/internal/rpc"
)

// ServeCmd runs the mesh.
type ServeCmd struct {
	Target string   `default:"all" enum:"all,embedder,sampler,generator,trainer" env:"DREAMOOD_TARGET" help:"What this process runs: all roles, or one of embedder, sampler, generator, trainer (default all)."`
	Listen string   `default:"${server}" env:"DREAMOOD_LISTEN" placeholder:"HOST:PORT" help:"Where gRPC listens (default ${server}). Beyond this machine, give it a certificate and ask who calls: --tls-cert, --tokens, --client-ca."`
	Data   string   `default:".dreamood" type:"path" env:"DREAMOOD_DATA" placeholder:"DIR" help:"Folder of everything that is kept: blobs, checkpoints, the embedded queue (default .dreamood)."`
	Store  string   `env:"DREAMOOD_STORE" placeholder:"URL" help:"Where blobs are kept: s3://BUCKET/PREFIX (default: in the data folder). Who we are and where the server is come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL_S3. The same for every process of a mesh."`
	Models string   `default:"models" type:"path" env:"DREAMOOD_MODELS" placeholder:"DIR" help:"Folder of diffusion models in the stock Diffusers ONNX layout, one folder each (default models)."`
	Roots  []string `name:"dataset-root" default:"." sep:"none" type:"path" placeholder:"DIR" help:"Folder inside which dataset paths of requests may lie; repeatable (default: the working directory)."`

	NATS       string `name:"nats" env:"DREAMOOD_NATS" placeholder:"URL" help:"NATS server with JetStream (default: an embedded one, kept in the data folder)."`
	NATSListen string `name:"nats-listen" env:"DREAMOOD_NATS_LISTEN" placeholder:"HOST:PORT" help:"Where the embedded NATS server listens for other processes (default: only this process reaches it)."`
	Embedder   string `env:"DREAMOOD_EMBEDDER" placeholder:"ADDR" help:"Address of the embedder, where it is another process."`
	Sampler    string `env:"DREAMOOD_SAMPLER" placeholder:"ADDR" help:"Address of the sampler, where it is another process."`
	Generator  string `env:"DREAMOOD_GENERATOR" placeholder:"ADDR" help:"Address of the generator, where it is another process."`
	Trainer    string `env:"DREAMOOD_TRAINER" placeholder:"ADDR" help:"Address of the trainer, for a generator that is another process: detectors of quality gates are asked there (default: gates have no detectors)."`

	Tokens   string `type:"path" env:"DREAMOOD_TOKENS" placeholder:"FILE" help:"File of who may call, a line each: NAME:ROLE:SHA256 of a token, as dreamood token new prints it, or NAME:ROLE:cert for a client certificate. Read again when it changes."`
	ClientCA string `name:"client-ca" type:"path" env:"DREAMOOD_CLIENT_CA" placeholder:"FILE" help:"Authorities of client certificates in PEM form. A certificate with the URI dreamood://ROLE/NAME says who calls; others are listed in --tokens."`

	Metrics string `env:"DREAMOOD_METRICS" placeholder:"HOST:PORT" help:"Where /metrics (Prometheus), /healthz and /readyz are served over HTTP (default: nowhere). There is no authentication."`

	NATSCreds string `name:"nats-creds" type:"path" env:"DREAMOOD_NATS_CREDS" placeholder:"FILE" help:"Credentials file of this process for --nats."`
	NATSCA    string `name:"nats-tls-ca" type:"path" env:"DREAMOOD_NATS_TLS_CA" placeholder:"FILE" help:"Authorities for the connection to --nats; with --nats-listen, those of the clients."`
	NATSCert  string `name:"nats-tls-cert" type:"path" env:"DREAMOOD_NATS_TLS_CERT" placeholder:"FILE" help:"Certificate for the connection to --nats, or of the server that --nats-listen opens."`
	NATSKey   string `name:"nats-tls-key" type:"path" env:"DREAMOOD_NATS_TLS_KEY" placeholder:"FILE" help:"Private key of --nats-tls-cert."`

	GCEvery time.Duration `name:"gc-every" default:"6h" placeholder:"TIME" help:"How often one process of the mesh removes what nothing names any more (default 6h)."`
	GCGrace time.Duration `name:"gc-grace" default:"24h" placeholder:"TIME" help:"How long such blobs are kept where they are, and then in the trash (default 24h)."`

	DrainDelay   time.Duration `name:"drain-delay" default:"0s" env:"DREAMOOD_DRAIN_DELAY" placeholder:"TIME" help:"How long to go on after SIGTERM, already not ready, until those that send calls here know (default 0s). In Kubernetes: 5s."`
	DrainTimeout time.Duration `name:"drain-timeout" default:"30s" env:"DREAMOOD_DRAIN_TIMEOUT" placeholder:"TIME" help:"How long a stop waits for work to return (default 30s)."`

	QuotaRuns   int `env:"DREAMOOD_QUOTA_RUNS" placeholder:"N" help:"How many unfinished runs a client may have (default: as many as it likes). The same for every process of a mesh."`
	QuotaShards int `env:"DREAMOOD_QUOTA_SHARDS" placeholder:"N" help:"How many shards that are not done a client's runs may have together (default: as many as it likes). The same for every process of a mesh."`

	LimitFlags `embed:"" group:"limits"`

	Provider string `default:"cpu" enum:"cpu,openvino,cuda,tensorrt" env:"DREAMOOD_PROVIDER" help:"What ONNX Runtime computes on: cpu, openvino, cuda or tensorrt (default cpu). dreamood doctor names what is there."`
	Threads  int    `env:"DREAMOOD_THREADS" placeholder:"N" help:"Threads of the native engine (default: one per core)."`

	Precision string `default:"fp32" enum:"fp32,bf16" env:"DREAMOOD_PRECISION" help:"Of the generator's U-Net: fp32, or bf16 with --provider openvino on CPUs that have it, about twice as fast (default fp32). dreamood bench generator says how far its pictures differ."`
	Lanes     int    `env:"DREAMOOD_LANES" placeholder:"N" help:"Runs of the generator's U-Net at once, which share the threads (default: as dreamood bench generator measured, else 2 on a CPU)."`
	Untouched bool   `name:"untouched-graphs" env:"DREAMOOD_UNTOUCHED_GRAPHS" help:"Run the generator's U-Net as it was stored, without fused attention and with equal steps alone in a batch: slower, to look for faults."`

	Batch     int `env:"DREAMOOD_BATCH" placeholder:"N" help:"Pictures that a generator renders together (default: by the size of the model's latents). They do not depend on it."`
	ShardSize int `env:"DREAMOOD_SHARD_SIZE" placeholder:"N" help:"Pictures per shard of a set (default: about 45 s of work, by measured speed). They do not depend on it."`

	Engine         string `default:"" enum:",process,inline" env:"DREAMOOD_ENGINE" placeholder:"WHERE" help:"Where the generator's models are: inline, in this process, or process, in one of their own that is started again when it crashes or hangs (default: process for cuda and tensorrt)."`
	EnginePictures int    `env:"DREAMOOD_ENGINE_PICTURES" placeholder:"N" help:"Replace the engine process after so many pictures (default: never)."`
	EngineMemory   int    `env:"DREAMOOD_ENGINE_MEMORY" placeholder:"MIB" help:"Replace the engine process when it has so much memory (default: any)."`
}

// Help teaches the command.
func (ServeCmd) Help() string {
	return `One process with everything in it, data in ./.dreamood:

    dreamood serve --dataset-root data

A mesh of four processes, with NATS outside:

    dreamood serve --target embedder  --listen 127.0.0.1:7461 --nats nats://127.0.0.1:4222 --data shared
    dreamood serve --target sampler   --listen 127.0.0.1:7462 --nats nats://127.0.0.1:4222 --data shared --embedder 127.0.0.1:7461
    dreamood serve --target generator --listen 127.0.0.1:7463 --nats nats://127.0.0.1:4222 --data shared --embedder 127.0.0.1:7461 --sampler 127.0.0.1:7462
    dreamood serve --target trainer   --listen 127.0.0.1:7464 --nats nats://127.0.0.1:4222 --data shared --generator 127.0.0.1:7463

With TLS and tokens, nobody may do anything without one. The first line prints the line for the file tokens:

    dreamood token new alice --role client --out alice.token
    dreamood serve --listen 0.0.0.0:7460 --tls-cert server.pem --tls-key server.key --tokens tokens
    dreamood runs list --server HOST:7460 --tls-ca ca.pem --token-file alice.token

Ctrl+C or SIGTERM stops gracefully: health checks are told, calls end, work under way goes back to the queue. A second
one stops at once; runs go on where they were when the server starts again.`
}

// Run serves until ctx ends or a part of the mesh fails.
func (c *ServeCmd) Run(ctx context.Context, s *Session) (err error) {
	log, err := s.logger()
	if err != nil {
		return err
	}
	defer log.Sync()
	cfg := c.config(s.credentials(log), s.tracing.Provider())
	if err := cfg.Validate(); err != nil {
		return usage("%w", err)
	}
	a, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.Start(ctx); err != nil {
		return err
	}
	if !rpc.Loopback(a.Addr()) && !cfg.Authenticates() {
		log.Warn("reachable beyond this machine, without authentication", zap.String("listen", a.Addr()))
	}
	if c.NATSListen != "" && c.NATSCA == "" {
		log.Warn("the embedded NATS server takes connections without authentication", zap.String("listen", c.NATSListen))
	}
	if addr := a.MetricsAddr(); addr != "" && !rpc.Loopback(addr) {
		log.Warn("metrics are reachable beyond this machine, without authentication", zap.String("metrics", addr))
	}
	if err := c.welcome(s, a); err != nil {
		return err
	}
	err = a.Wait(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // asked to stop, and stopped
	}
	return err
}

func (c *ServeCmd) config(credentials rpc.Credentials, tracing trace.TracerProvider) app.Config {
	return app.Config{
		Credentials: credentials, Tokens: c.Tokens, ClientCA: c.ClientCA,
		NATSCreds: c.NATSCreds, NATSCA: c.NATSCA, NATSCert: c.NATSCert, NATSKey: c.NATSKey, GCEvery: c.GCEvery, GCGrace: c.GCGrace,
		Target: c.Target, Data: c.Data, Store: c.Store, Listen: c.Listen, NATS: c.NATS, NATSListen: c.NATSListen, Models: c.Models,
		Datasets: c.Roots, Embedder: c.Embedder, Sampler: c.Sampler, Generator: c.Generator, Trainer: c.Trainer, Provider: c.Provider, Threads: c.Threads,
		Precision: c.Precision, Lanes: c.Lanes, Untouched: c.Untouched, Batch: c.Batch, ShardSize: c.ShardSize,
		Version: version, Metrics: c.Metrics, Tracing: tracing, DrainDelay: c.DrainDelay, DrainTimeout: c.DrainTimeout,
		QuotaRuns: c.QuotaRuns, QuotaShards: c.QuotaShards, Limits: c.LimitFlags.limits(),
		Engine: c.Engine, EnginePictures: c.EnginePictures, EngineMemory: c.EngineMemory,
	}
}

// welcome says where the server listens, for scripts too, and what to type next.
func (c *ServeCmd) welcome(s *Session, a *app.App) error {
	addr := a.Addr()
	if s.json() {
		says := map[string]string{"address": addr, "target": c.Target, "version": version}
		if metrics := a.MetricsAddr(); metrics != "" {
			says["metrics"] = metrics
		}
		return json.NewEncoder(s.Out).Encode(says)
	}
	what := "all roles"
	if c.Target != "all" {
		what = "the " + c.Target
	}
	s.say("dreamood runs %s on %s, data in %s", what, addr, c.Data)
	if next, ok := map[string]string{
		"all": "dreamood space train NAME --dataset PATH", "embedder": "dreamood space train NAME --dataset PATH",
		"generator": "dreamood imagine SET --space NAME --per-class N", "trainer": "dreamood train DETECTOR --dataset PATH --test PATH",
	}[c.Target]; ok {
		client := *s
		client.Server = addr
		s.hint("in another terminal: %s", client.command(next))
	}
	return nil
}
