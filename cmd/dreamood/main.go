// Command dreamood imagines outliers: it serves the roles of the mesh, and it is the client that trains spaces,
// renders outlier sets, trains detectors and scores pictures with them. Commands talk to a server through the
// generated gRPC clients alone; only serve and demo start roles.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"
)

// version is set by the Makefile: -ldflags "-X main.version=…".
var version = "dev"

// defaultServer is where serve listens and where the client commands look for it.
const defaultServer = "127.0.0.1:7460"

// Globals are the flags that every command takes.
type Globals struct {
	Server    string `default:"${server}" env:"DREAMOOD_SERVER" placeholder:"HOST:PORT" help:"Server to talk to; in a mesh of several processes, one that runs the role asked (default ${server})."`
	Output    string `default:"text" enum:"text,json" help:"Form of results: text, or json with one object per line (default text)."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"Least severe log line that serve and demo write: debug, info, warn or error (default info)."`
	TraceFile string `type:"path" env:"DREAMOOD_TRACE_FILE" placeholder:"FILE" help:"Append OpenTelemetry spans to this file, for dreamood trace show; processes may share it. OTEL_EXPORTER_OTLP_ENDPOINT sends them to a collector."`
	Quiet     bool   `short:"q" help:"No progress and no hints, only results and errors."`

	SecurityFlags `embed:"" group:"security"`
}

// CLI is the grammar of the command line.
type CLI struct {
	Globals `embed:"" group:"global"`

	Demo   DemoCmd   `cmd:"" group:"start" help:"See all of it: real pictures in, imagined outliers, a detector and a report out."`
	Engine EngineCmd `cmd:"" hidden:""`

	Serve ServeCmd `cmd:"" group:"start" help:"Run the mesh: all roles in this process, or one of them."`

	Space      SpaceCmd      `cmd:"" group:"path" help:"Embedding spaces: learn, list, show, delete, embed pictures, export."`
	Imagine    ImagineCmd    `cmd:"" group:"path" help:"Imagine an outlier set from a space."`
	Render     RenderCmd     `cmd:"" group:"path" help:"Imagine a few outliers of one class at once, without a run."`
	Embeddings EmbeddingsCmd `cmd:"" group:"path" help:"Embedding sets: sample many classes at once, list, show, export."`
	Sets       SetsCmd       `cmd:"" group:"path" help:"Outlier sets: list, show, export."`
	Replay     ReplayCmd     `cmd:"" group:"path" help:"Render lines of a manifest again, and compare bit for bit."`
	Train      TrainCmd      `cmd:"" group:"path" help:"Train a detector, with or without an outlier set."`
	Detector   DetectorCmd   `cmd:"" group:"path" help:"Detectors: list, show, download, evaluate."`
	Sample     SampleCmd     `cmd:"" group:"path" help:"Sample outlier embeddings by hand: NumPy files in and out, no server."`
	Score      ScoreCmd      `cmd:"" group:"path" help:"Say of pictures what they show and which are out of distribution; or measure."`
	Metrics    MetricsCmd    `cmd:"" group:"path" help:"AUROC, FPR95 and AUPR of scores in NumPy files."`

	Runs     RunsCmd     `cmd:"" group:"look" help:"Long work: list, show, watch, cancel, pause, retry, and the queue."`
	Models   ModelsCmd   `cmd:"" group:"look" help:"Diffusion models in a folder: list, add, verify, pull from the Hugging Face Hub, remove."`
	GC       GCCmd       `cmd:"" name:"gc" group:"look" help:"Remove blobs that nothing names any more, now."`
	Token    TokenCmd    `cmd:"" group:"look" help:"Tokens, for servers that ask who calls."`
	Trace    TraceCmd    `cmd:"" group:"look" help:"Where the time of a call or a run went, as a picture."`
	Bench    BenchCmd    `cmd:"" group:"look" help:"Measure this machine: how the generator runs fastest."`
	Doctor   DoctorCmd   `cmd:"" group:"look" help:"Say what is there, what is missing, and what to do about it."`
	Version  VersionCmd  `cmd:"" group:"look" help:"Print the version."`
	Pipeline PipelineCmd `cmd:"" group:"look" help:"Pipelines: many runs from one YAML file; run again, only what is missing."`
}

const description = `Imagine outliers from labelled pictures, and train a classifier that knows what it does not know.

dreamood demo shows everything in a few minutes. By hand: dreamood serve in one terminal; in another
dreamood space train, dreamood imagine, dreamood train, dreamood score. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 out of distribution (score --fail-on-ood), 4 cancelled, 5 refused (--fail-if), 130 interrupted or detached.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, nil)
	stop()
	os.Exit(code)
}

// run is the program: it parses args, runs the command and returns the exit code. dial connects to --server; nil is what
// the flags say.
func run(ctx context.Context, args []string, out, errs io.Writer, dial func(addr string) (*grpc.ClientConn, error)) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var cli CLI
	exited := -1
	parser, err := newParser(&cli, out, errs, func(code int) { exited = code })
	if err != nil {
		panic(err) // a defect in the tags of CLI; every test would meet it
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 { // --help has been printed
		return exited
	}
	sink := &sink{w: out}
	s := &Session{Globals: cli.Globals, Out: sink, Err: errs, dial: dial}
	if err != nil {
		return s.reportUsage(err)
	}
	defer s.close()
	ctx, end, err := s.startTracing(ctx, kctx.Selected().FullPath(), cli.Serve.Target)
	if err == nil {
		kctx.BindTo(ctx, (*context.Context)(nil))
		err = kctx.Run(s)
		end(err)
	}
	if err == nil && sink.err != nil {
		err = sink.err
	}
	return s.report(kctx.Selected(), err)
}

func newParser(cli *CLI, out, errs io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(cli,
		kong.Name("dreamood"),
		kong.Description(description),
		kong.Vars{"server": defaultServer},
		kong.Writers(out, errs),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110, NoExpandSubcommands: true}),
		kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{
			{Key: "start", Title: "Start here:"},
			{Key: "path", Title: "The path, from pictures to a detector:"},
			{Key: "look", Title: "Look and steer:"},
			{Key: "sampling", Title: "Sampling of embeddings (0 or nothing: the method's default):"},
			{Key: "rendering", Title: "Rendering (0 or nothing: the default):"},
			{Key: "byhand", Title: "By hand, without a server:"},
			{Key: "gate", Title: "Quality gate (0 or nothing: off, or the default):"},
			{Key: "preview", Title: "Previews of unfinished pictures:"},
			{Key: "training", Title: "Training (0 or nothing: the default):"},
			{Key: "byhand", Title: "By hand, without a server:"},
			{Key: "verdict", Title: "Is it good enough:"},
			{Key: "run", Title: "The run:"},
			{Key: "limits", Title: "What one request may ask the generator for (0 or nothing: the default):"},
			{Key: "global", Title: "Every command:"},
			{Key: "security", Title: "Encryption, and who this is:"},
		}),
	)
}

// printHelp is kong's help with the global flags at the end, where they are not in the way of the command's own.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if node := ctx.Selected(); node != nil {
		node.Flags = append(node.Flags, ctx.Model.Flags...)
		ctx.Model.Flags = nil
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// reportUsage prints what the parser did not understand, and where help is.
func (s *Session) reportUsage(err error) int {
	command := "dreamood"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			command = node.FullPath()
		}
	}
	s.complain("%s", strings.TrimSuffix(err.Error(), "."))
	s.complain("`%s --help` explains the command", command)
	return exitUsage
}
