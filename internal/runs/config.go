package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// Config of the queue. The zero value is usable. Every process of a mesh should have the same one: the last to start
// sets the streams.
type Config struct {
	Name     string   // prefix of streams, bucket and subjects; default "dreamood"
	Kinds    []string // queues made by New; others are made by the first Submit or Serve of their kind
	Process  string   // names this process in the shards it holds; default host name and process id
	Replicas int      // copies in a NATS cluster, 1, 3 or 5; default 1

	AckWait     time.Duration // a worker that is silent for so long loses its shard; default 30 s
	Heartbeat   time.Duration // how often a worker shows that it lives, less than AckWait; default 10 s
	MaxAttempts int           // of one shard; default 3
	Backoff     time.Duration // before the second attempt, doubled for each further one, with jitter; default 2 s
	MaxBackoff  time.Duration // default 1 min
	// ResourceBackoff takes the place of Backoff after a lack of memory or disk; at most ten times that. Default 30 s.
	ResourceBackoff time.Duration
	// AwayFor is how long attempts that fail because another service is away count nothing. Default 30 min.
	AwayFor    time.Duration
	CommitWait time.Duration // how long a commit is tried while the queue cannot be reached; default AckWait

	MaxPending     int           // shards waiting or worked on per kind; more give ErrQueueFull; default 10,000
	QuotaRuns      int           // runs of one owner that have not ended; more give ErrQuota; 0: no quota
	QuotaShards    int           // shards of one owner that are not done, over all kinds; more give ErrQuota; 0: no quota
	LaneIdle       time.Duration // a lane that has been empty for so long is removed until it is needed again; default 1 h
	Poll           time.Duration // how often workers without work look for it unasked, a fifth as often when the queue is empty; default 1 s
	ReportEvery    time.Duration // at most one progress event per shard in this time; default 500 ms
	ReconcileEvery time.Duration // default 30 s
	EventAge       time.Duration // how long events are kept; default 7 days
	EventsPerRun   int           // how many are kept, the newest; default 2,000
	// KeepRuns is how long the record of a run stays after its end, with its events, request id and dead letter. Default
	// 30 days; negative: for ever.
	KeepRuns time.Duration
}

// Deps are what a Service works with.
type Deps struct {
	JS     jetstream.JetStream        // required
	Log    *zap.Logger                // default: nothing
	Clock  func() time.Time           // of this machine, for the log to say that it is wrong: see clock; default time.Now
	Reason func(err error) (r string) // Failure.Reason of a failed run; default "INTERNAL"
	// Forget removes what Worker.Work keeps for a retry beside the run's document (check-points, under Run.Origin). It is
	// called before the record of a run that FAILED or was CANCELLED is removed, at least once. Default: nothing.
	Forget   func(ctx context.Context, run Run) error
	Point    func(name string) // for tests: called between the steps of the protocol, see Points; default nothing
	Tracer   trace.Tracer      // of submissions and shards; default: none
	Observer Observer          // default: none
}

func (c Config) withDefaults() Config {
	setDefault(&c.Name, "dreamood")
	setDefault(&c.Process, processName())
	setDefault(&c.Replicas, 1)
	setDefault(&c.AckWait, 30*time.Second)
	setDefault(&c.Heartbeat, c.AckWait/3)
	setDefault(&c.MaxAttempts, 3)
	setDefault(&c.Backoff, 2*time.Second)
	setDefault(&c.MaxBackoff, max(time.Minute, c.Backoff))
	setDefault(&c.CommitWait, c.AckWait)
	setDefault(&c.MaxPending, 10_000)
	setDefault(&c.LaneIdle, time.Hour)
	setDefault(&c.Poll, time.Second)
	setDefault(&c.ReportEvery, 500*time.Millisecond)
	setDefault(&c.ReconcileEvery, 30*time.Second)
	setDefault(&c.EventAge, 7*24*time.Hour)
	setDefault(&c.EventsPerRun, 2000)
	setDefault(&c.ResourceBackoff, 30*time.Second)
	setDefault(&c.AwayFor, 30*time.Minute)
	setDefault(&c.KeepRuns, 30*24*time.Hour)
	return c
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$`)
	kindPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
)

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	require(namePattern.MatchString(c.Name), "name %q: want up to 31 letters, digits, _ and -", c.Name)
	for _, kind := range c.Kinds {
		require(kindPattern.MatchString(kind), "kind %q: want up to 63 of a-z, 0-9 and -, the first a letter", kind)
	}
	require(c.Replicas >= 1 && c.Replicas <= 5, "replicas %d: want 1, 3 or 5", c.Replicas)
	require(c.MaxAttempts >= 1, "max attempts %d: want at least 1", c.MaxAttempts)
	require(c.MaxPending >= 1, "max pending %d: want at least 1", c.MaxPending)
	require(c.QuotaRuns >= 0, "quota of runs %d: want 0 or more", c.QuotaRuns)
	require(c.QuotaShards >= 0, "quota of shards %d: want 0 or more", c.QuotaShards)
	require(c.EventsPerRun >= 2, "events per run %d: want at least 2", c.EventsPerRun)
	durations := []struct {
		name  string
		value time.Duration
	}{
		{"ack wait", c.AckWait}, {"heartbeat", c.Heartbeat}, {"back-off", c.Backoff}, {"max back-off", c.MaxBackoff},
		{"commit wait", c.CommitWait}, {"lane idle", c.LaneIdle}, {"poll", c.Poll}, {"report every", c.ReportEvery},
		{"reconcile every", c.ReconcileEvery}, {"event age", c.EventAge},
		{"resource back-off", c.ResourceBackoff}, {"away for", c.AwayFor},
	}
	for _, d := range durations {
		require(d.value >= time.Millisecond, "%s %s: want at least 1ms", d.name, d.value)
	}
	require(c.Heartbeat < c.AckWait, "heartbeat %s: want less than the ack wait, %s", c.Heartbeat, c.AckWait)
	require(c.Backoff <= c.MaxBackoff, "back-off %s: want at most the max back-off, %s", c.Backoff, c.MaxBackoff)
	return errors.Join(problems...)
}

func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = zap.NewNop()
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Reason == nil {
		d.Reason = func(error) string { return "INTERNAL" }
	}
	if d.Tracer == nil {
		d.Tracer = noop.Tracer{}
	}
	if d.Observer == nil {
		d.Observer = noObserver{}
	}
	return d
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "-" + strconv.Itoa(os.Getpid())
}
