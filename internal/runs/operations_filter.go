package runs

import (
	"regexp"
	"strings"

	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// operationFilter is the filter of ListOperations: what ListRuns can select, and whether it is done.
type operationFilter struct {
	list *runv1.ListRunsRequest
	done string // "true", "false", or "" for both
}

// filterTerm is one comparison, and what joins it to the next one.
var filterTerm = regexp.MustCompile(`^(?:metadata\.)?(done|kind|state|owner|target|labels\.[a-z0-9][a-z0-9._/-]*)\s*=\s*(?:"([^"\\]*)"|([^\s"]+))\s*(?:AND\s+|$)`)

// parseFilter reads comparisons joined by AND, for example `done=false AND labels.team="vision"`.
func parseFilter(text string) (operationFilter, error) {
	f := operationFilter{list: &runv1.ListRunsRequest{Labels: map[string]string{}}}
	for rest := strings.TrimSpace(text); rest != ""; {
		term := filterTerm.FindStringSubmatch(rest)
		if term == nil || strings.HasSuffix(term[0], " ") && len(term[0]) == len(rest) {
			return f, fault.Invalid("filter", "stops making sense at %q; want comparisons of done, kind, state, owner, target or labels.NAME "+
				`with =, joined by AND, for example done=false AND labels.team="vision"`, rest)
		}
		rest = rest[len(term[0]):]
		if problem := f.add(term[1], term[2]+term[3]); problem != "" {
			return f, fault.Invalid("filter", "%s", problem)
		}
	}
	return f, nil
}

// add takes one comparison into the filter and says what is wrong with it.
func (f *operationFilter) add(key, value string) string {
	if label, ok := strings.CutPrefix(key, "labels."); ok {
		f.list.Labels[label] = value
		return ""
	}
	switch key {
	case "kind":
		f.list.Kind = value
	case "owner":
		f.list.Owner = value
	case "target":
		f.list.Target = value
	case "state":
		name := "RUN_STATE_" + strings.TrimPrefix(strings.ToUpper(value), "RUN_STATE_")
		if f.list.State = runv1.RunState(runv1.RunState_value[name]); f.list.State == 0 {
			return "state " + value + " is none; want PENDING, RUNNING, PAUSED, SUCCEEDED, FAILED or CANCELLED"
		}
	case "done":
		if value != "true" && value != "false" {
			return "done is " + value + "; want true or false"
		}
		f.done = value
	}
	return ""
}

// match says whether a run that ListRuns selected is wanted.
func (f operationFilter) match(run *runv1.Run) bool {
	return f.done == "" || fromProto(run.State).Terminal() == (f.done == "true")
}
