package evaluation

import (
	"encoding/xml"
	"fmt"
	"io"
)

type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	Suites  []junitSuite
}

type junitSuite struct {
	XMLName    xml.Name        `xml:"testsuite"`
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	XMLName xml.Name      `xml:"testcase"`
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the verdicts in the XML that CI systems show as tests: one test per condition, that fails where the
// condition holds, and the figures as properties.
func WriteJUnit(w io.Writer, s Summary, verdicts []Verdict) error {
	suite := junitSuite{Name: "dreamood " + s.Detector.Name, Tests: len(verdicts)}
	property := func(name string, v float64) {
		suite.Properties = append(suite.Properties, junitProperty{name, fmt.Sprintf("%.6f", v)})
	}
	property("accuracy", s.ID.Accuracy)
	property("ece", s.ID.ECE)
	for _, a := range s.Averages {
		property("fpr95["+a.Group+"]", a.FPR95IDPositive)
		property("fpr95_ood_positive["+a.Group+"]", a.FPR95OODPositive)
		property("auroc["+a.Group+"]", a.AUROC)
	}
	for _, r := range s.OOD {
		property("fpr95["+r.Name+"]", r.FPR95IDPositive)
		property("auroc["+r.Name+"]", r.AUROC)
	}
	for _, v := range verdicts {
		c := junitCase{Class: "dreamood." + s.Detector.Name, Name: "not " + v.Condition, Out: v.Explain()}
		if v.Fails {
			suite.Failures++
			c.Failure = &junitFailure{Message: v.Condition + " holds", Text: v.Explain()}
			c.Out = ""
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(junitSuites{Suites: []junitSuite{suite}}); err != nil {
		return fmt.Errorf("write JUnit XML: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// Explain says in a sentence how a condition was decided.
func (v Verdict) Explain() string {
	text := fmt.Sprintf("measured %.4f, bound %.4f", v.Value, v.Bound)
	if !v.Relative {
		return text
	}
	text += fmt.Sprintf("; baseline %.4f, difference %+.4f, 90 %% interval %+.4f to %+.4f", v.Baseline, v.Value-v.Baseline, v.Difference.Low, v.Difference.High)
	if !v.Paired {
		text += " (measured on other pictures)"
	}
	if v.Fails {
		return text + fmt.Sprintf("; it holds in all but %.1f %% of the resamples: significant", 100*v.Chance)
	}
	if v.Chance < significance {
		return text
	}
	return text + fmt.Sprintf("; it does not hold in %.1f %% of the resamples", 100*v.Chance)
}
