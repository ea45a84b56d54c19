package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// GateFlags say which pictures a set takes.
type GateFlags struct {
	Gate           bool    `group:"gate" help:"Measure every picture and refuse blank, broken and otherwise unwanted ones; others of the class take their place. Any flag of this group turns it on."`
	Judge          string  `group:"gate" field:"gate.detector" placeholder:"DETECTOR" help:"Detector whose confidence counts, for the filters below."`
	MinConfidence  float64 `group:"gate" field:"gate.min_confidence" placeholder:"X" help:"Least confidence of the detector that is taken, 0 to 1."`
	MaxConfidence  float64 `group:"gate" field:"gate.max_confidence" placeholder:"X" help:"Largest confidence that is taken, 0 to 1 (default 1)."`
	LeakConfidence float64 `group:"gate" field:"gate.leak_confidence" placeholder:"X" help:"Refuse pictures that are classified as their own class with a confidence above this."`
	LeakQuantile   float64 `group:"gate" field:"gate.leak_quantile" placeholder:"Q" help:"Refuse pictures nearer to the bank than this share of the bank's own embeddings is, such as 0.5."`
	GateK          int32   `group:"gate" field:"gate.k" placeholder:"N" help:"Which neighbour in the bank that distance is to (default 1)."`
	DuplicateBits  *int32  `group:"gate" field:"gate.duplicate_bits" placeholder:"N" help:"Refuse pictures whose perceptual hash differs in at most so many of 64 bits from one that is taken, such as 4."`
	MinContrast    float64 `group:"gate" field:"gate.min_contrast" placeholder:"X" help:"Refuse pictures whose grey values have a smaller standard deviation, in 1/255 (default 4, -1 for none)."`
	MaxAttempts    int32   `group:"gate" field:"gate.max_attempts" placeholder:"N" help:"Candidates per wanted picture at most, 1 to 100 (default 4)."`
}

// message is the gate, nil where no flag asks for one.
func (f GateFlags) message() (*generatorv1.Gate, error) {
	if f == (GateFlags{}) {
		return nil, nil
	}
	g := &generatorv1.Gate{
		MinConfidence: f.MinConfidence, MaxConfidence: f.MaxConfidence, LeakConfidence: f.LeakConfidence, LeakQuantile: f.LeakQuantile,
		K: f.GateK, DuplicateBits: f.DuplicateBits, MinContrast: f.MinContrast, MaxAttempts: f.MaxAttempts,
	}
	if f.Judge != "" {
		name, err := resource(ood.Detectors, f.Judge)
		if err != nil {
			return nil, err
		}
		g.Detector = name
	}
	return g, nil
}

// yields prints what became of the candidates of a set with a gate.
func (s *Session) yields(set *generatorv1.Set) {
	if len(set.GetYields()) == 0 {
		return
	}
	var t table
	t.row("CLASS", "WANTED", "TAKEN", "TRIED", "LIMIT", "REFUSED")
	for _, y := range set.GetYields() {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(y.GetRefused())) {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, y.GetRefused()[reason]))
		}
		t.row(y.GetClass(), y.GetWanted(), y.GetTaken(), y.GetTried(), y.GetLimit(), strings.Join(reasons, ", "))
	}
	t.print(s.Out)
	for _, y := range set.GetYields() {
		if y.GetTaken() < y.GetWanted() {
			s.complain("class %s: %d of %d pictures; all %d candidates were tried. Loosen the gate, or raise --max-attempts", y.GetClass(), y.GetTaken(), y.GetWanted(), y.GetLimit())
		}
	}
}
