// Package app puts roles together: one process with all of them and an embedded NATS server, or one role of a mesh.
// It is the only place that knows the difference.
package app

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/services/generator"
)

// Limits are the generator's caps.
type Limits = generator.Limits

// Targets are what a process can be.
var Targets = []string{"all", "embedder", "sampler", "generator", "trainer"}

// Config of a process.
type Config struct {
	Target     string   // one of Targets; default "all"
	Data       string   // folder of blobs, checkpoints and the embedded NATS server's store; required
	Store      string   // s3://BUCKET/PREFIX where blobs are kept; "" = in Data
	Listen     string   // host:port for gRPC; "" = in-process only
	NATS       string   // URL; "" = embedded
	NATSListen string   // host:port where the embedded server listens; "" = in-process only
	Models     string   // folder of diffusion models
	Datasets   []string // roots inside which dataset paths may lie
	Embedder   string   // address of the embedder; "" = in this process
	Sampler    string   // address of the sampler; "" = in this process
	Generator  string   // address of the generator; "" = in this process
	Trainer    string   // address of the trainer, for the gates of a generator; "" = in this process, or none
	Provider   string   // "cpu", "openvino", "cuda" or "tensorrt"; "" = cpu
	Threads    int      // of one model run; 0 = all CPUs
	Batch      int      // pictures rendered together; 0 = as measured, or by the size of the model's latents
	Lanes      int      // runs of the generator's U-Net at once; 0 = as measured, or chosen
	Precision  string   // of the generator's U-Net: "fp32" or "bf16"; "" = fp32
	Untouched  bool     // the generator's U-Net runs as it was stored
	ShardSize  int      // pictures per shard of a set; 0 = by measured speed

	Engine         string // EngineInline or EngineProcess: where the generator's models are; "" = a process where CUDA is used
	EnginePictures int    // after which the engine process is replaced; 0 = never
	EngineMemory   int    // MiB of it, after which it is replaced; 0 = any

	Limits Limits // of what one request to the generator may ask for

	QuotaRuns   int // runs of one owner that have not ended; 0 = no quota
	QuotaShards int // shards of one owner that are not done; 0 = no quota

	// Credentials are those of this process: what it shows to the other roles, and the certificate of its own server.
	Credentials rpc.Credentials
	Tokens      string // file of identities
	ClientCA    string // PEM file: authorities of client certificates

	NATSCreds                 string // credentials file of this process for the NATS server outside
	NATSCA, NATSCert, NATSKey string // PEM files for the connection to NATS, or of the embedded server that listens

	GCEvery time.Duration // between two garbage collections of the mesh; default 6 hours
	GCGrace time.Duration // how long what nothing names is kept, twice; default 24 hours

	DrainDelay   time.Duration // from saying that it is not ready to taking no more calls and work, when asked to stop
	DrainTimeout time.Duration // how long a stop waits for work to return; default 30 s

	Version string               // that the metrics name
	Metrics string               // host:port of metrics, liveness and readiness over HTTP; "" = none
	Tracing trace.TracerProvider // of calls and runs; nil = none
}

// Authenticates says whether callers need an identity. Without one, everybody may do everything.
func (c Config) Authenticates() bool { return c.Tokens != "" || c.ClientCA != "" }

func (c Config) withDefaults() Config {
	if c.Target == "" {
		c.Target = "all"
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Engine == "" {
		c.Engine = engineOf(c.Provider)
	}
	return c
}

// has says whether the process plays a role.
func (c Config) has(role string) bool { return c.Target == "all" || c.Target == role }

// Validate reports every problem at once, with the flag that mends it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains(Targets, c.Target) {
		bad("--target %q: want one of %v", c.Target, Targets)
	}
	if c.DrainDelay < 0 || c.DrainTimeout < 0 {
		bad("--drain-delay %s, --drain-timeout %s: want no negative time", c.DrainDelay, c.DrainTimeout)
	}
	if c.Data == "" {
		bad("--data: no folder was given")
	}
	if err := checkStore(c.Store); err != nil {
		bad("--store %q: %w", c.Store, err)
	}
	if c.Target != "all" && c.NATS == "" {
		bad("--nats: a process with one role needs the URL of the mesh's NATS server")
	}
	if c.NATS != "" && c.NATSListen != "" {
		bad("--nats-listen: only the embedded server listens; leave it out with --nats")
	}
	needs := func(role, flag, address string) {
		if address == "" && !c.has(role) {
			bad("--%s: the %s needs the address of the %s", flag, c.Target, role)
		}
	}
	switch c.Target {
	case "sampler":
		needs("embedder", "embedder", c.Embedder)
	case "generator":
		needs("embedder", "embedder", c.Embedder)
		needs("sampler", "sampler", c.Sampler)
	case "trainer":
		needs("generator", "generator", c.Generator)
	}
	if c.has("generator") || c.has("embedder") {
		if info, err := os.Stat(c.Models); err != nil || !info.IsDir() {
			bad("--models %q: no such folder; it holds one folder per diffusion model (the project ships models/reference)", c.Models)
		}
	}
	if !slices.Contains([]string{"", "cpu", "openvino", "cuda", "tensorrt"}, c.Provider) {
		bad("--provider %q: want cpu, openvino, cuda or tensorrt", c.Provider)
	}
	if c.Engine != EngineInline && c.Engine != EngineProcess {
		bad("--engine %q: want %s or %s", c.Engine, EngineInline, EngineProcess)
	}
	if c.EnginePictures < 0 || c.EngineMemory < 0 {
		bad("--engine-pictures %d, --engine-memory %d: want 0 (no limit) or more", c.EnginePictures, c.EngineMemory)
	}
	switch {
	case c.Precision != "" && c.Precision != "fp32" && c.Precision != "bf16":
		bad("--precision %q: want fp32 or bf16", c.Precision)
	case c.Precision == "bf16" && c.Provider != "openvino":
		bad("--precision bf16: it wants --provider openvino")
	}
	if c.Lanes < 0 {
		bad("--lanes %d: want 0 or more", c.Lanes)
	}
	if c.Batch < 0 || c.ShardSize < 0 {
		bad("--batch %d, --shard-size %d: want 0 or more", c.Batch, c.ShardSize)
	}
	if c.Threads < 0 || c.Threads > 16*runtime.NumCPU() {
		bad("--threads %d: want 0 (all CPUs) to %d", c.Threads, 16*runtime.NumCPU())
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Credentials.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.ClientCA != "" && c.Credentials.Cert == "" {
		bad("--client-ca: client certificates are shown over TLS alone; give this server a certificate with --tls-cert and --tls-key")
	}
	if c.Tokens != "" && c.Listen != "" && c.Credentials.Cert == "" && !c.Credentials.InsecureTokens && !rpc.Loopback(c.Listen) {
		bad("--tokens: on %s they could be read on the way; give this server a certificate with --tls-cert and --tls-key, or allow it with --insecure-tokens on a network that you trust", c.Listen)
	}
	if c.NATSCreds != "" && c.NATS == "" {
		bad("--nats-creds: only a NATS server outside asks for them; name it with --nats")
	}
	if (c.NATSCert == "") != (c.NATSKey == "") {
		bad("--nats-tls-cert and --nats-tls-key go together: a certificate and its private key")
	}
	if c.GCEvery != 0 && c.GCEvery < time.Minute {
		bad("--gc-every %s: want at least 1m", c.GCEvery)
	}
	if c.GCGrace != 0 && c.GCGrace < time.Minute {
		bad("--gc-grace %s: want at least 1m; a worker needs some time between storing a blob and naming it", c.GCGrace)
	}
	if c.QuotaRuns < 0 {
		bad("--quota-runs %d: want 1 or more, or 0 for no quota", c.QuotaRuns)
	}
	if c.QuotaShards < 0 {
		bad("--quota-shards %d: want 1 or more, or 0 for no quota", c.QuotaShards)
	}
	return errors.Join(errs...)
}
