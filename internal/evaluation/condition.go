package evaluation

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Condition is one reason for a CI job to refuse a detector:
//
//	condition = metric [ "[" set "]" ] op bound
//	metric    = "fpr95" | "fpr95_ood_positive" | "auroc" | "aupr_in" | "aupr_out" | "accuracy" | "ece" | "refused"
//	set       = "all" | "near" | "far" | the name of an OOD set; for accuracy "shifted" or the name of a shifted set
//	op        = ">" | ">=" | "<" | "<="
//	bound     = number | "baseline" [ ("+" | "-") number ]
//	number    = digits [ "." digits ] [ "%" ]
//
// Blanks may stand between the parts. Without a set, the OOD metrics are means over all OOD sets, and accuracy, ece and
// refused (the share of ID that the threshold refuses) are those of the ID test pictures. A number is compared with the
// measured value; a bound relative to the baseline is passed only when the difference is significant.
type Condition struct {
	Text     string
	Metric   string
	Set      string // "" is the default
	Op       string
	Relative bool    // to the baseline
	Number   float64 // the bound, or what is added to the baseline
}

var grammar = regexp.MustCompile(`^\s*([a-z0-9_]+)\s*(?:\[\s*([a-z0-9][a-z0-9_-]*)\s*\])?\s*(>=|<=|>|<)\s*(?:(baseline)\s*(?:([+-])\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(%)?)?|([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(%)?)\s*$`)

// oodMetrics are those that compare ID with OOD pictures, in the order of five.
var oodMetrics = []string{"auroc", "aupr_in", "aupr_out", "fpr95", "fpr95_ood_positive"}

// idMetrics are those of ID pictures alone.
var idMetrics = []string{"accuracy", "ece", "refused"}

// ParseCondition reads a condition.
func ParseCondition(text string) (Condition, error) {
	c := Condition{Text: strings.TrimSpace(text)}
	p := grammar.FindStringSubmatch(text)
	if p == nil {
		return c, fmt.Errorf("%q is no condition; write for example fpr95>0.35, fpr95[near]>40%%, auroc<baseline-0.01 or accuracy<90%%", text)
	}
	c.Metric, c.Set, c.Op, c.Relative = p[1], p[2], p[3], p[4] != ""
	if !slices.Contains(oodMetrics, c.Metric) && !slices.Contains(idMetrics, c.Metric) {
		return c, fmt.Errorf("%q: no metric is called %q; there are %s", text, c.Metric, strings.Join(append(slices.Clone(oodMetrics), idMetrics...), ", "))
	}
	if c.Set != "" && (c.Metric == "ece" || c.Metric == "refused") {
		return c, fmt.Errorf("%q: %s is of the ID test pictures and takes no set", text, c.Metric)
	}
	number, unit := p[8], p[9]
	if c.Relative {
		number, unit = p[6], p[7]
	}
	if number != "" {
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return c, fmt.Errorf("%q: %w", text, err)
		}
		if c.Number = v; unit != "" {
			c.Number /= 100
		}
		if p[5] == "-" {
			c.Number = -c.Number
		}
	}
	if !c.Relative && (c.Number < 0 || c.Number > 1) {
		return c, fmt.Errorf("%q: the bound is %g; all metrics lie between 0 and 1 (100 %%)", text, c.Number)
	}
	return c, nil
}

// ParseConditions reads several, and reports all mistakes.
func ParseConditions(texts []string) ([]Condition, error) {
	var out []Condition
	var problems []string
	for _, text := range texts {
		c, err := ParseCondition(text)
		if err != nil {
			problems = append(problems, err.Error())
		}
		out = append(out, c)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return out, nil
}

// holds says whether a value meets the condition's bound.
func (c Condition) holds(value, bound float64) bool {
	switch c.Op {
	case ">":
		return value > bound
	case ">=":
		return value >= bound
	case "<":
		return value < bound
	}
	return value <= bound
}
