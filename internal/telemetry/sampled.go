package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// sampleWait bounds how long a scrape waits for the queue.
const sampleWait = 3 * time.Second

// Sources are what is looked at with every scrape. A source that is nil is left out.
type Sources struct {
	Queue       func(context.Context) ([]Lane, error)
	DeadLetters func(context.Context) (map[string]int64, error) // by kind
	Working     func() []Work
	Models      func() map[string]int // diffusion models that were used, by condition
	NATS        func() (connected bool, reconnects uint64)
	Drift       func() []Drift
	Live        func() (calls, pictures int, there bool) // of a generator
	Engine      func() (starts, crashes int, there bool) // processes
}

// Drift is how far the newest pictures that were scored with a detector lie from its calibration.
type Drift struct {
	Detector               string // with its version
	PSI, Refused, Expected float64
	Window                 int
}

// Lane is what waits in one class of a kind's queue.
type Lane struct {
	Kind, Class       string
	Waiting, InFlight int64
	Oldest            time.Duration
}

// Work is the work of one kind under way in this process.
type Work struct {
	Kind   string
	Shards int
	Quiet  time.Duration
}

// sampled reads the sources when it is scraped.
type sampled struct {
	sources Sources
	descs   map[string]*prometheus.Desc
}

func newSampled(sources Sources) *sampled {
	s := &sampled{sources: sources, descs: map[string]*prometheus.Desc{}}
	for _, name := range []string{queueWaiting, queueInFlight, queueOldest, queueRead, deadLetters, workActive, workQuiet, natsConnected, natsReconnect,
		driftPSI, driftRefused, driftExpected, driftWindow, liveCalls, livePictures, engineStarts, engineCrashes, models} {
		s.descs[name] = desc(name)
	}
	return s
}

// Describe is part of prometheus.Collector.
func (s *sampled) Describe(to chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		to <- d
	}
}

// Collect is part of prometheus.Collector.
func (s *sampled) Collect(to chan<- prometheus.Metric) {
	gauge := func(name string, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, value, labels...)
	}
	s.queue(gauge)
	if s.sources.Working != nil {
		for _, w := range s.sources.Working() {
			gauge(workActive, float64(w.Shards), w.Kind)
			gauge(workQuiet, w.Quiet.Seconds(), w.Kind)
		}
	}
	if s.sources.Drift != nil {
		for _, d := range s.sources.Drift() {
			gauge(driftPSI, d.PSI, d.Detector)
			gauge(driftRefused, d.Refused, d.Detector)
			gauge(driftExpected, d.Expected, d.Detector)
			gauge(driftWindow, float64(d.Window), d.Detector)
		}
	}
	if s.sources.Live != nil {
		if calls, pictures, there := s.sources.Live(); there {
			gauge(liveCalls, float64(calls))
			gauge(livePictures, float64(pictures))
		}
	}
	if s.sources.Engine != nil {
		if starts, crashes, there := s.sources.Engine(); there {
			to <- prometheus.MustNewConstMetric(s.descs[engineStarts], prometheus.CounterValue, float64(starts))
			to <- prometheus.MustNewConstMetric(s.descs[engineCrashes], prometheus.CounterValue, float64(crashes))
		}
	}
	if s.sources.Models != nil {
		for condition, n := range s.sources.Models() {
			gauge(models, float64(n), condition)
		}
	}
	if s.sources.NATS != nil {
		connected, reconnects := s.sources.NATS()
		gauge(natsConnected, number(connected))
		to <- prometheus.MustNewConstMetric(s.descs[natsReconnect], prometheus.CounterValue, float64(reconnects))
	}
}

// queue reads the queue of the mesh. What cannot be read is missing, and said to be.
func (s *sampled) queue(gauge func(name string, value float64, labels ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), sampleWait)
	defer cancel()
	ok := true
	if s.sources.Queue != nil {
		lanes, err := s.sources.Queue(ctx)
		ok = err == nil
		for _, l := range lanes {
			gauge(queueWaiting, float64(l.Waiting), l.Kind, l.Class)
			gauge(queueInFlight, float64(l.InFlight), l.Kind, l.Class)
			gauge(queueOldest, l.Oldest.Seconds(), l.Kind, l.Class)
		}
	}
	if s.sources.DeadLetters != nil {
		letters, err := s.sources.DeadLetters(ctx)
		ok = ok && err == nil
		for kind, n := range letters {
			gauge(deadLetters, float64(n), kind)
		}
	}
	gauge(queueRead, number(ok))
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
