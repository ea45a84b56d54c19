package telemetry

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// stageBuckets reach from a claim to a training, callBuckets from a look-up to a large answer; in seconds.
var (
	stageBuckets = []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000}
	callBuckets  = []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100}
)

// outcomes and states are known from the start, so that the first failure is seen as an increase.
var (
	outcomes = []string{"done", "retry", "failed", "given_back", "fenced", "ended", "not_committed", "paused"}
	states   = []string{"PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "PAUSED"}
)

// Config of the metrics of a process.
type Config struct {
	Version, Target string
	Kinds           []string // of runs
}

// Metrics are the metrics of a process. It is the observer of the calls and of the runs.
type Metrics struct {
	registry *prometheus.Registry

	calls        *prometheus.CounterVec
	callSeconds  *prometheus.HistogramVec
	attempts     *prometheus.CounterVec
	states       *prometheus.CounterVec
	stageSeconds *prometheus.HistogramVec
	stageItems   *prometheus.CounterVec
	units        *prometheus.CounterVec
	blobs        prometheus.Counter
	blobBytes    prometheus.Counter
}

// New makes and registers the metrics.
func New(cfg Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls:    counter(calls), callSeconds: histogram(callSeconds, callBuckets), attempts: counter(attempts),
		states: counter(runStates), stageSeconds: histogram(stageSeconds, stageBuckets), stageItems: counter(stageItems), units: counter(units),
		blobs:     prometheus.NewCounter(prometheus.CounterOpts{Name: blobs, Help: find(blobs).Help}),
		blobBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: blobBytes, Help: find(blobBytes).Help}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: buildInfo, Help: find(buildInfo).Help}, find(buildInfo).Labels)
	build.WithLabelValues(cfg.Version, cfg.Target).Set(1)
	for _, kind := range cfg.Kinds {
		m.units.WithLabelValues(kind)
		for _, outcome := range outcomes {
			m.attempts.WithLabelValues(kind, outcome)
		}
		for _, state := range states {
			m.states.WithLabelValues(kind, state)
		}
	}
	m.registry.MustRegister(build, m.calls, m.callSeconds, m.attempts, m.states, m.stageSeconds, m.stageItems, m.units,
		m.blobs, m.blobBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Sample has the sources looked at with every scrape. Once.
func (m *Metrics) Sample(sources Sources) { m.registry.MustRegister(newSampled(sources)) }

func counter(name string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: find(name).Help}, find(name).Labels)
}

func histogram(name string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: find(name).Help, Buckets: buckets}, find(name).Labels)
}

// Call counts a call; see rpc.Observer.
func (m *Metrics) Call(method, code string, took time.Duration) {
	m.calls.WithLabelValues(method, code).Inc()
	m.callSeconds.WithLabelValues(method).Observe(took.Seconds())
}

// Attempt counts an attempt; see runs.Observer.
func (m *Metrics) Attempt(kind, outcome string) {
	m.attempts.WithLabelValues(kind, strings.ReplaceAll(outcome, " ", "_")).Inc()
}

// Stage measures a stage; see runs.Observer.
func (m *Metrics) Stage(kind, stage string, took time.Duration, count int64) {
	m.stageSeconds.WithLabelValues(kind, stage).Observe(took.Seconds())
	m.stageItems.WithLabelValues(kind, stage).Add(float64(count))
}

// Units counts units; see runs.Observer.
func (m *Metrics) Units(kind string, n int64) { m.units.WithLabelValues(kind).Add(float64(n)) }

// State counts a state; see runs.Observer.
func (m *Metrics) State(kind, state string) { m.states.WithLabelValues(kind, state).Inc() }

// Blob counts a blob that was put into the store.
func (m *Metrics) Blob(bytes int64) {
	m.blobs.Inc()
	m.blobBytes.Add(float64(bytes))
}
