// Package telemetry is what an operator sees of a process from outside: Prometheus metrics with their HTTP listener,
// and OpenTelemetry traces with their exporters. It knows none of the packages that it measures: those hear of it
// through interfaces of their own, and the application puts them together.
package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Metric is what the process exports under one name. docs/metrics.md is written from this table.
type Metric struct {
	Name, Type string // the type as Prometheus names it
	Labels     []string
	Help       string
}

// The names, each once.
const (
	buildInfo     = "dreamood_build_info"
	calls         = "dreamood_calls_total"
	callSeconds   = "dreamood_call_duration_seconds"
	queueWaiting  = "dreamood_queue_waiting_shards"
	queueInFlight = "dreamood_queue_in_flight_shards"
	queueOldest   = "dreamood_queue_oldest_wait_seconds"
	queueRead     = "dreamood_queue_read_ok"
	deadLetters   = "dreamood_dead_letters"
	attempts      = "dreamood_attempts_total"
	runStates     = "dreamood_run_states_total"
	stageSeconds  = "dreamood_stage_duration_seconds"
	stageItems    = "dreamood_stage_items_total"
	units         = "dreamood_units_total"
	workActive    = "dreamood_work_active_shards"
	workQuiet     = "dreamood_work_quiet_seconds"
	models        = "dreamood_models"
	natsConnected = "dreamood_nats_connected"
	natsReconnect = "dreamood_nats_reconnects_total"
	blobs         = "dreamood_blobs_written_total"
	blobBytes     = "dreamood_blobs_written_bytes_total"
	liveCalls     = "dreamood_render_calls"
	livePictures  = "dreamood_render_waiting_pictures"
	engineStarts  = "dreamood_engine_starts_total"
	engineCrashes = "dreamood_engine_crashes_total"
	driftPSI      = "dreamood_drift_psi"
	driftRefused  = "dreamood_drift_refused_ratio"
	driftExpected = "dreamood_drift_expected_ratio"
	driftWindow   = "dreamood_drift_window_pictures"
)

// All are the metrics of this program; go_* and process_* of Prometheus's own collectors come on top. Every label has a
// handful of values: no runs, no owners, and no names of resources but those of the few detectors that a process keeps
// in memory.
func All() []Metric {
	return []Metric{
		{buildInfo, "gauge", []string{"version", "target"}, "1; which version runs, and what it is."},
		{calls, "counter", []string{"method", "code"}, "gRPC calls that ended, by full method and code."},
		{callSeconds, "histogram", []string{"method"}, "Duration of gRPC calls; of a stream from its opening to its end."},
		{queueWaiting, "gauge", []string{"kind", "class"}, "Shards that wait for a worker, in the whole mesh."},
		{queueInFlight, "gauge", []string{"kind", "class"}, "Shards that workers hold, in the whole mesh."},
		{queueOldest, "gauge", []string{"kind", "class"}, "How long the oldest waiting shard has waited; 0 when none waits."},
		{queueRead, "gauge", nil, "Whether the queue could be read for this scrape; 0 means that its figures are missing."},
		{deadLetters, "gauge", []string{"kind"}, "Dead letters, in the whole mesh."},
		{attempts, "counter", []string{"kind", "outcome"}, "Attempts at shards, and at the finish of a run, that ended in this process."},
		{runStates, "counter", []string{"kind", "state"}, "States that this process wrote into runs; PENDING counts submissions, the final states ends."},
		{stageSeconds, "histogram", []string{"kind", "stage"}, "Duration of the stages of a shard in this process."},
		{stageItems, "counter", []string{"kind", "stage"}, "What the parts of the work did: pictures, steps."},
		{units, "counter", []string{"kind"}, "Units of progress in shards that this process committed."},
		{workActive, "gauge", []string{"kind"}, "Shards under way in this process."},
		{workQuiet, "gauge", []string{"kind"}, "How long the quietest shard under way in this process has reported nothing new; 0 when none is."},
		{models, "gauge", []string{"condition"}, "Diffusion models that this process has used: loading, ready, stale (the files changed and cannot be loaded; the old ones serve), failed."},
		{natsConnected, "gauge", nil, "Whether this process is connected to NATS."},
		{natsReconnect, "counter", nil, "Connections to NATS that were made again."},
		{blobs, "counter", nil, "Blobs that this process put into the store, those that were there already too."},
		{blobBytes, "counter", nil, "Bytes of these blobs."},
		{liveCalls, "gauge", nil, "Calls of RenderOutliers under way in this process."},
		{livePictures, "gauge", nil, "Pictures of these calls that are not rendered, but for calls that wait for slow clients."},
		{engineStarts, "counter", nil, "Engine processes that this process has started."},
		{engineCrashes, "counter", nil, "Engine processes that crashed, hung or could not be started."},
		{driftPSI, "gauge", []string{"detector"}, "Population stability index of the scores of the newest pictures against the calibration; a version of a detector that this process used lately."},
		{driftRefused, "gauge", []string{"detector"}, "Share of these pictures that were called out of distribution."},
		{driftExpected, "gauge", []string{"detector"}, "Share of the calibration's pictures that the threshold refuses."},
		{driftWindow, "gauge", []string{"detector"}, "How many pictures these are, 2000 at most."},
	}
}

// find is a metric by its name.
func find(name string) Metric {
	for _, m := range All() {
		if m.Name == name {
			return m
		}
	}
	panic("telemetry: no metric " + name) // a defect that every test meets
}

func desc(name string) *prometheus.Desc {
	m := find(name)
	return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
}
