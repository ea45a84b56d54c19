package telemetry

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	exprLine = regexp.MustCompile(`(?m)^\s+expr: (.*)$`)
	name     = regexp.MustCompile(`\b(?:dreamood|process|go)_[a-z_]+`)
	selector = regexp.MustCompile(`(dreamood_[a-z_]+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
)

// expressions are those of the alerts and of the dashboard.
func expressions(t *testing.T) []string {
	t.Helper()
	alerts, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range exprLine.FindAllStringSubmatch(string(alerts), -1) {
		list = append(list, m[1])
	}
	text, err := os.ReadFile("../../deploy/grafana/dreamood.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	if len(list) < 25 {
		t.Fatalf("only %d expressions were found", len(list))
	}
	return list
}

// TestExpressionsNameWhatIsExported: every metric, label and, where they are known, value that an alert or a panel
// names is exported; and every metric is seen somewhere. promtool tests what the alerts do: make alerts.
func TestExpressionsNameWhatIsExported(t *testing.T) {
	families := scrape(t, serve(t, used(), func() error { return nil }))
	shown, labels := map[string]bool{}, []string{"instance", "job", "le"}
	for _, m := range All() {
		labels = append(labels, m.Labels...)
	}
	for _, expr := range expressions(t) {
		for _, metric := range name.FindAllString(expr, -1) {
			base := metric
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if families[metric] == nil {
					base = strings.TrimSuffix(base, suffix)
				}
			}
			if shown[base] = true; families[base] == nil {
				t.Errorf("%s: %s is not exported", expr, metric)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				known := map[string][]string{"outcome": outcomes, "state": states}[m[1]]
				for _, v := range strings.Split(m[2], "|") {
					if !slices.Contains(labels, m[1]) || known != nil && !slices.Contains(known, v) {
						t.Errorf("%s: no label %s=%q", expr, m[1], v)
					}
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(g[1], ", ") {
				if !slices.Contains(labels, label) {
					t.Errorf("%s: no label %q", expr, label)
				}
			}
		}
	}
	for _, m := range All() {
		if !shown[m.Name] && m.Name != blobs {
			t.Errorf("%s is in no alert and no panel", m.Name)
		}
	}
}

// TestAlertsAreExplained: the runbook says what to do about each.
func TestAlertsAreExplained(t *testing.T) {
	alerts, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1)
	for _, n := range names {
		if !strings.Contains(string(runbook), "| `"+n[1]+"` |") {
			t.Errorf("the runbook does not say what to do about %s", n[1])
		}
	}
	if len(names) < 5 {
		t.Errorf("only %d alerts were found", len(names))
	}
}
