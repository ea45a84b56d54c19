package generator

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// Defaults of Gate, see generator.proto.
const (
	defaultContrast = 4
	defaultAttempts = 4
	maxAttempts     = 100
	maxGateK        = 1000
)

// gateOf fills defaults and reports every setting that is out of bounds. No gate is nil.
func gateOf(q *generatorv1.Gate) (*Gate, error) {
	if q == nil {
		return nil, nil
	}
	g := &Gate{
		Detector: q.Detector, MinConfidence: q.MinConfidence, MaxConfidence: q.MaxConfidence, LeakConfidence: q.LeakConfidence,
		LeakQuantile: q.LeakQuantile, K: int(q.K), DuplicateBits: -1, MinContrast: q.MinContrast, MaxAttempts: int(q.MaxAttempts),
	}
	setDefault(&g.MaxConfidence, 1)
	setDefault(&g.LeakConfidence, 1)
	setDefault(&g.K, 1)
	setDefault(&g.MinContrast, defaultContrast)
	setDefault(&g.MaxAttempts, defaultAttempts)
	var c fault.Checks
	if q.DuplicateBits != nil {
		g.DuplicateBits = int(*q.DuplicateBits)
		c.That(g.DuplicateBits >= 0 && g.DuplicateBits <= 32, "gate.duplicate_bits", "%d; want 0 to 32", g.DuplicateBits)
	}
	within := func(x, from, to float64) bool { return x >= from && x <= to } // false for NaN
	c.That(within(g.MinConfidence, 0, 1), "gate.min_confidence", "%g; want 0 to 1", g.MinConfidence)
	c.That(within(g.MaxConfidence, 0, 1), "gate.max_confidence", "%g; want 0 to 1", g.MaxConfidence)
	c.That(g.MinConfidence <= g.MaxConfidence, "gate.min_confidence", "%g is above max_confidence, %g", g.MinConfidence, g.MaxConfidence)
	c.That(within(g.LeakConfidence, 0, 1), "gate.leak_confidence", "%g; want 0 to 1", g.LeakConfidence)
	c.That(within(g.LeakQuantile, 0, 1) && g.LeakQuantile < 1, "gate.leak_quantile", "%g; want 0 to below 1", g.LeakQuantile)
	c.That(g.K >= 1 && g.K <= maxGateK, "gate.k", "%d; want 1 to %d", g.K, maxGateK)
	c.That(g.MinContrast <= 127, "gate.min_contrast", "%g; want at most 127, or a negative number for none", g.MinContrast)
	c.That(g.MaxAttempts >= 1 && g.MaxAttempts <= maxAttempts, "gate.max_attempts", "%d; want 1 to %d", g.MaxAttempts, maxAttempts)
	if g.Detector == "" {
		c.That(g.MinConfidence == 0 && g.MaxConfidence == 1 && g.LeakConfidence == 1, "gate.detector", "is empty; filters by confidence need a detector")
	} else if _, err := ood.Detectors.ID(g.Detector); err != nil {
		c.Add("gate.detector", "%v", err)
	}
	return g, c.Err()
}

func setDefault[T comparable](x *T, value T) {
	if *x == *new(T) {
		*x = value
	}
}

// message is the gate with its defaults.
func (g *Gate) message() *generatorv1.Gate {
	if g == nil {
		return nil
	}
	q := &generatorv1.Gate{
		Detector: g.Detector, MinConfidence: g.MinConfidence, MaxConfidence: g.MaxConfidence, LeakConfidence: g.LeakConfidence,
		LeakQuantile: g.LeakQuantile, K: int32(g.K), MinContrast: g.MinContrast, MaxAttempts: int32(g.MaxAttempts),
	}
	if g.DuplicateBits >= 0 {
		q.DuplicateBits = proto.Int32(int32(g.DuplicateBits))
	}
	return q
}

// admitGate refuses a gate whose detector is not there, or does not know the classes that it shall see leaks of.
func (s *Service) admitGate(ctx context.Context, g *Gate, classes []string) error {
	if g == nil || g.Detector == "" {
		return nil
	}
	d, err := s.detector(ctx, g)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, class := range d.Classes {
		known[class] = true
	}
	var c fault.Checks
	for _, class := range classes {
		c.That(g.LeakConfidence >= 1 || known[class], "gate.leak_confidence", "%s does not know the class %q; it knows %q", g.Detector, class, d.Classes)
	}
	return c.Err()
}

// detector asks the trainer for the detector of a gate; nil for none.
func (s *Service) detector(ctx context.Context, g *Gate) (*trainerv1.Detector, error) {
	if g.Detector == "" {
		return nil, nil
	}
	if s.deps.Trainer == nil {
		return nil, fault.New(fault.FailedPrecondition, "this generator knows no trainer, which %s is asked of: start it with --trainer", g.Detector)
	}
	r, err := s.deps.Trainer.GetDetector(ctx, &trainerv1.GetDetectorRequest{Name: g.Detector})
	if err != nil {
		return nil, fmt.Errorf("ask the trainer for %q: %w", g.Detector, err)
	}
	if r.GetDetector() == nil {
		return nil, errors.New("the trainer named no detector")
	}
	return r.Detector, nil
}

// judgement is what was measured, as it stands in records.
func (m Measured) judgement(refused string) *generatorv1.Judgement {
	out := &generatorv1.Judgement{
		Class: m.Class, Confidence: float32(m.Confidence), Score: float32(m.Score), BankDistance: float32(m.Distance),
		BankQuantile: float32(m.Quantile), NearestClass: m.Nearest, Contrast: float32(m.Contrast), Refused: refused,
	}
	if !m.Broken {
		out.Hash = fmt.Sprintf("%016x", m.Hash)
	}
	return out
}
