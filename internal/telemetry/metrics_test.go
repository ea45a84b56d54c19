package telemetry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// used are metrics in which something of everything happened.
func used() *Metrics {
	m := New(Config{Version: "v1", Target: "all", Kinds: []string{"render-set"}})
	m.Sample(Sources{
		Queue: func(context.Context) ([]Lane, error) {
			return []Lane{{Kind: "render-set", Class: "normal", Waiting: 7, InFlight: 2, Oldest: 90 * time.Second}}, nil
		},
		DeadLetters: func(context.Context) (map[string]int64, error) { return map[string]int64{"render-set": 3}, nil },
		Working:     func() []Work { return []Work{{Kind: "render-set", Shards: 2, Quiet: 1500 * time.Millisecond}} },
		Models:      func() map[string]int { return map[string]int{"ready": 1, "stale": 0} },
		NATS:        func() (bool, uint64) { return true, 4 },
		Live:        func() (int, int, bool) { return 3, 40, true },
		Engine:      func() (int, int, bool) { return 5, 2, true },
		Drift: func() []Drift {
			return []Drift{{Detector: "detectors/d@2", PSI: 0.3, Refused: 0.25, Expected: 0.05, Window: 700}}
		},
	})
	m.Call("/dreamood.run.v1.RunService/GetRun", "OK", 20*time.Millisecond)
	m.Attempt("render-set", "given back")
	m.Stage("render-set", "denoise", 2*time.Second, 32)
	m.Units("render-set", 32)
	m.State("render-set", "SUCCEEDED")
	m.Blob(1000)
	return m
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, addr string) map[string]*dto.MetricFamily {
	t.Helper()
	answer, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("scrape: %s, %v", answer.Status, err)
	}
	return families
}

// value of the one series with these label values, in the order of the label names.
func value(f *dto.MetricFamily, values ...string) (float64, bool) {
	for _, m := range f.GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetValue())
		}
		if slices.Equal(have, values) {
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue(), true
			case m.Gauge != nil:
				return m.Gauge.GetValue(), true
			}
			return m.Histogram.GetSampleSum(), true
		}
	}
	return 0, false
}

func serve(t *testing.T, m *Metrics, ready func() error) string {
	t.Helper()
	l, err := m.Listen("127.0.0.1:0", ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return l.Addr()
}

func TestScrape(t *testing.T) {
	families := scrape(t, serve(t, used(), func() error { return nil }))
	const kind = "render-set"
	for name, want := range map[string]struct {
		value  float64
		labels []string // values, by the order of the names
	}{
		buildInfo: {1, []string{"all", "v1"}}, calls: {1, []string{"OK", "/dreamood.run.v1.RunService/GetRun"}},
		callSeconds: {0.02, []string{"/dreamood.run.v1.RunService/GetRun"}}, queueWaiting: {7, []string{"normal", kind}},
		queueInFlight: {2, []string{"normal", kind}}, queueOldest: {90, []string{"normal", kind}}, queueRead: {1, nil},
		deadLetters: {3, []string{kind}}, attempts: {1, []string{kind, "given_back"}}, runStates: {1, []string{kind, "SUCCEEDED"}},
		stageSeconds: {2, []string{kind, "denoise"}}, stageItems: {32, []string{kind, "denoise"}}, units: {32, []string{kind}},
		workActive: {2, []string{kind}}, workQuiet: {1.5, []string{kind}}, natsConnected: {1, nil}, natsReconnect: {4, nil},
		blobs: {1, nil}, blobBytes: {1000, nil}, liveCalls: {3, nil}, livePictures: {40, nil}, engineStarts: {5, nil}, engineCrashes: {2, nil}, driftPSI: {0.3, []string{"detectors/d@2"}}, driftRefused: {0.25, []string{"detectors/d@2"}},
		driftExpected: {0.05, []string{"detectors/d@2"}}, driftWindow: {700, []string{"detectors/d@2"}},
	} {
		got, ok := value(families[name], want.labels...)
		if !ok || got != want.value {
			t.Errorf("%s%q is %v (there: %v), want %v", name, want.labels, got, ok, want.value)
		}
	}
	if got, ok := value(families[attempts], kind, "failed"); !ok || got != 0 {
		t.Errorf("an outcome that never was is %v (there: %v), want 0", got, ok)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// TestTable holds the table of names against what is registered: name, type, labels and help.
func TestTable(t *testing.T) {
	families := scrape(t, serve(t, used(), func() error { return nil }))
	for _, m := range All() {
		f := families[m.Name]
		delete(families, m.Name)
		if f == nil {
			t.Errorf("%s is not exported", m.Name)
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if want := slices.Sorted(slices.Values(m.Labels)); strings.ToLower(f.GetType().String()) != m.Type || f.GetHelp() != m.Help || !slices.Equal(labels, want) {
			t.Errorf("%s is a %s of %v, %q; the table says %s of %v, %q", m.Name, f.GetType(), labels, f.GetHelp(), m.Type, want, m.Help)
		}
		if m.Type == "counter" != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s: counters, and only they, end in _total", m.Name)
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "dreamood_") {
			t.Errorf("%s is exported and not in the table", name)
		}
	}
}

// TestDocument holds docs/metrics.md against the table; with -update it writes it.
func TestDocument(t *testing.T) {
	const path, begin, end = "../../docs/metrics.md", "<!-- table -->\n", "<!-- end of the table -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between %q and %q", path, begin, end)
	}
	var b strings.Builder
	b.WriteString("| metric | type | labels | |\n| --- | --- | --- | --- |\n")
	for _, m := range All() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, m.Help)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != b.String() {
		t.Errorf("%s is not what is exported; go test ./internal/telemetry -update", path)
	}
}

// TestQueueThatCannotBeRead: no figure is better than a wrong one, and the rest is still exported.
func TestQueueThatCannotBeRead(t *testing.T) {
	m := New(Config{})
	m.Sample(Sources{Queue: func(context.Context) ([]Lane, error) { return nil, errors.New("away") }, NATS: func() (bool, uint64) { return false, 0 }})
	families := scrape(t, serve(t, m, func() error { return nil }))
	if read, ok := value(families[queueRead]); !ok || read != 0 || families[queueWaiting] != nil {
		t.Errorf("read_ok %v (there: %v), waiting %v", read, ok, families[queueWaiting])
	}
	if connected, ok := value(families[natsConnected]); !ok || connected != 0 {
		t.Errorf("connected %v (there: %v)", connected, ok)
	}
}

func TestProbes(t *testing.T) {
	var why error
	addr := serve(t, New(Config{}), func() error { return why })
	get := func(path string) (int, string) {
		answer, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(body)
	}
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("ready: %d", code)
	}
	why = errors.New("not connected to NATS")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "NATS") {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("alive: %d", code)
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("profiles are served: %d", code)
	}
	if _, err := New(Config{}).Listen(addr, nil); err == nil || !strings.Contains(err.Error(), "--metrics") {
		t.Errorf("a taken address: %v", err)
	}
}
