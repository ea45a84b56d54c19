package app

import (
	"context"
	"errors"
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// scrape reads a metric of a process: the sum over its series that have these label values.
func scrape(t *testing.T, addr, name string, labels ...string) float64 {
	t.Helper()
	answer, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if families[name] == nil {
		t.Fatalf("%s is not exported", name)
	}
	sum := 0.0
	for _, m := range families[name].Metric {
		if hasLabels(m, labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, values []string) bool {
	have := map[string]bool{}
	for _, l := range m.Label {
		have[l.GetValue()] = true
	}
	for _, v := range values {
		if !have[v] {
			return false
		}
	}
	return true
}

// TestMetricsMove: a call, a shard that fails once, and a blob are in the next scrape; and the process says when it is
// ready.
func TestMetricsMove(t *testing.T) {
	a := newApp(t, Config{Data: t.TempDir(), Models: models, Metrics: "127.0.0.1:0", Version: "v9"})
	defer http.DefaultClient.CloseIdleConnections()
	addr, ready := a.MetricsAddr(), func() int {
		answer, err := http.Get("http://" + a.MetricsAddr() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if got := ready(); got != 503 {
		t.Errorf("ready before the start: %d", got)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got != 200 {
		t.Errorf("ready after the start: %d", got)
	}
	inside, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embedderv1.NewEmbedderServiceClient(inside).ListSpaces(t.Context(), &embedderv1.ListSpacesRequest{}); err != nil {
		t.Fatal(err)
	}
	oneShard(t, a)
	if _, err := artifact.PutBytes(t.Context(), a.blobs, []byte("twelve bytes")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1, "dreamood_build_info", []string{"v9", "all"}},
		{1, "dreamood_calls_total", []string{embedderv1.EmbedderService_ListSpaces_FullMethodName, "OK"}},
		{1, "dreamood_call_duration_seconds", []string{embedderv1.EmbedderService_ListSpaces_FullMethodName}},
		{1, "dreamood_attempts_total", []string{"dream", "retry"}}, {2, "dreamood_attempts_total", []string{"dream", "done"}},
		{1, "dreamood_run_states_total", []string{"dream", "SUCCEEDED"}}, {5, "dreamood_units_total", []string{"dream"}},
		{1, "dreamood_stage_duration_seconds", []string{"dream", "queue"}}, {2, "dreamood_stage_duration_seconds", []string{"dream", "work"}},
		{12, "dreamood_blobs_written_bytes_total", nil}, {1, "dreamood_nats_connected", nil}, {1, "dreamood_queue_read_ok", nil},
		{0, "dreamood_queue_waiting_shards", []string{"render-set"}}, {0, "dreamood_attempts_total", []string{"render-set", "failed"}},
	} {
		if got := scrape(t, addr, c.name, c.labels...); got != c.want {
			t.Errorf("%s%q is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if err := inside.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + addr + "/healthz"); err == nil {
		t.Error("metrics are still served")
	}
}

// oneShard runs a run of one shard, whose first attempt fails.
func oneShard(t *testing.T, a *App) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- a.runs.Serve(ctx, runs.Worker{Kind: "dream", Work: func(_ context.Context, task *runs.Task) ([]byte, error) {
			task.Report(5, 5, "")
			if task.Attempt == 1 {
				return nil, errors.New("once")
			}
			return nil, nil
		}})
	}()
	run, _, err := a.runs.Submit(t.Context(), runs.Spec{Kind: "dream", Total: 5})
	if err == nil {
		err = a.runs.Watch(t.Context(), run.ID, 0, func(runs.Event) error { return nil })
	}
	cancel()
	if err := errors.Join(err, <-served); err != nil {
		t.Fatal(err)
	}
}
