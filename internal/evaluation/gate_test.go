package evaluation

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"
)

func TestConditions(t *testing.T) {
	for text, want := range map[string]Condition{
		"fpr95>0.35":                   {Metric: "fpr95", Op: ">", Number: 0.35},
		" fpr95 [near] >= 40% ":        {Metric: "fpr95", Set: "near", Op: ">=", Number: 0.4},
		"auroc<baseline-0.01":          {Metric: "auroc", Op: "<", Relative: true, Number: -0.01},
		"accuracy < baseline - 0.5 %":  {Metric: "accuracy", Op: "<", Relative: true, Number: -0.005},
		"fpr95_ood_positive[a-1]<=.5":  {Metric: "fpr95_ood_positive", Set: "a-1", Op: "<=", Number: 0.5},
		"refused>baseline":             {Metric: "refused", Op: ">", Relative: true},
		"accuracy[shifted]<baseline+1": {Metric: "accuracy", Set: "shifted", Op: "<", Relative: true, Number: 1},
	} {
		got, err := ParseCondition(text)
		got.Text = ""
		if err != nil || got != want {
			t.Errorf("%q: %+v, want %+v, %v", text, got, want, err)
		}
	}
	for text, says := range map[string]string{
		"": "no condition", "fpr95": "no condition", "fpr95>x": "no condition", "fpr95=0.3": "no condition", "fpr95>0.3 or 1": "no condition",
		"fpr59>0.3": `called "fpr59"`, "ece[near]>0.1": "takes no set", "fpr95>35": "between 0 and 1", "fpr95>-0.1": "no condition",
		"fpr95[]>0.1": "no condition", "fpr95>baseline*2": "no condition", "fpr95>0.3; rm -rf /": "no condition", "fpr95[../x]>0.1": "no condition",
	} {
		if _, err := ParseCondition(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	if _, err := ParseConditions([]string{"a>1", "fpr95>2", "fpr95>0.1"}); err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "bound is 2") {
		t.Errorf("two mistakes: %v", err)
	}
}

func FuzzParseCondition(f *testing.F) {
	f.Add("fpr95[near]>baseline+0.01")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(text)
		if err == nil && !c.Relative && (c.Number < 0 || c.Number > 1) {
			t.Errorf("%q gave %+v", text, c)
		}
	})
}

func check(t *testing.T, m, baseline *Measured, texts ...string) []Verdict {
	t.Helper()
	conditions, err := ParseConditions(texts)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := Check(t.Context(), conditions, m, baseline)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts
}

func TestFixedBounds(t *testing.T) {
	m := measuredAt("d", 2, 0, "p")
	s, err := m.Summarise(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := check(t, m, nil, "fpr95>0.99", "fpr95>1%", "fpr95[near]>0", "auroc[far1]<1", "accuracy<0.9", "accuracy<=0.9", "accuracy[fog]<0.91", "ece>0.01", "refused>0.5")
	for i, want := range []bool{false, true, true, true, false, true, true, false, false} {
		if v[i].Fails != want {
			t.Errorf("%s: %+v, want %v", v[i].Condition, v[i], want)
		}
	}
	if v[0].Value != s.Averages[0].FPR95IDPositive || v[2].Value != s.Averages[1].FPR95IDPositive || v[3].Value != s.OOD[1].AUROC {
		t.Errorf("values %+v, the summary has %+v", v, s.Averages)
	}
}

// TestBaseline: a worse detector is refused, one that differs by chance is not, and the same one never.
func TestBaseline(t *testing.T) {
	base := measuredAt("base", 2, 0, "p")
	if v := check(t, measuredAt("same", 2, 0, "p"), base, "fpr95>baseline", "fpr95>=baseline", "accuracy<baseline")[0]; v.Fails || v.Difference.Low != 0 || v.Difference.High != 0 || !v.Paired {
		t.Errorf("the same detector: %+v", v)
	}
	worse := check(t, measuredAt("worse", 1.2, 10, "p"), base, "fpr95>baseline+0.01", "auroc<baseline-1%", "auroc[near]<baseline", "refused>baseline+0.5")
	for i, want := range []bool{true, true, true, false} {
		if worse[i].Fails != want {
			t.Errorf("a worse detector: %+v, want %v", worse[i], want)
		}
	}
	if !strings.Contains(worse[0].Explain(), "significant") || worse[0].Chance >= 0.05 {
		t.Errorf("explained as %q", worse[0].Explain())
	}
	// Worse by less than chance on other pictures: the difference is there, and does not count.
	v := check(t, measuredAt("else", 1.98, 0, "other"), base, "fpr95>baseline")[0]
	if v.Fails || v.Paired || !(v.Value > v.Baseline) || !strings.Contains(v.Explain(), "does not hold in") {
		t.Errorf("a difference by chance: %+v, %s", v, v.Explain())
	}
	if better := check(t, measuredAt("better", 3, 0, "p"), base, "fpr95>baseline")[0]; better.Fails || !(better.Difference.High < 0) {
		t.Errorf("a better detector: %+v", better)
	}
}

// TestSignificanceKeepsItsLevel: of detectors that differ by chance alone, 5 % may be refused.
func TestSignificanceKeepsItsLevel(t *testing.T) {
	refused := 0
	for seed := range uint64(20) {
		m, base := measuredAt("a", 2, 0, "p"), measuredAt("b", 2, 0, "q")
		m.OOD, base.OOD, m.Shifted, base.Shifted = m.OOD[:1], base.OOD[:1], nil, nil
		m.ID.Scores["energy"], base.ID.Scores["energy"] = normals(600, 100+2*seed, 2), normals(600, 101+2*seed, 2)
		m.OOD[0].Scores["energy"], base.OOD[0].Scores["energy"] = normals(400, 200+2*seed, 0), normals(400, 201+2*seed, 0)
		if check(t, m, base, "auroc<baseline")[0].Fails {
			refused++
		}
	}
	if refused > 4 { // 1 is expected; more than 4 has a chance of 0.3 %
		t.Errorf("%d of 20 equal detectors are refused", refused)
	}
}

func TestWhatCannotBeChecked(t *testing.T) {
	m, base := measuredAt("d", 2, 0, "p"), measuredAt("b", 2, 0, "p")
	base.OOD = base.OOD[:2]
	for text, c := range map[string]struct {
		baseline *Measured
		says     string
	}{
		"fpr95>baseline":          {nil, "--baseline"},
		"fpr95[svhn]>0.1":         {nil, "near1, far1, plain"},
		"accuracy[snow]<0.5":      {nil, "fog"},
		"fpr95[all]>baseline":     {base, "the baseline on [far1, near1]"},
		"fpr95[plain]>baseline":   {base, "the baseline on []"},
		"accuracy[fog]<baseline1": {base, "no condition"},
	} {
		condition, err := ParseCondition(text)
		if err == nil {
			_, err = Check(t.Context(), []Condition{condition}, m, c.baseline)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", text, err, c.says)
		}
	}
}

func TestJUnit(t *testing.T) {
	m := measuredAt("d <&> \"x\"", 2, 0, "p")
	s, err := m.Summarise(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteJUnit(&b, s, check(t, m, nil, "fpr95>1%", "fpr95>0.99")); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	suite := back.Suites[0]
	if suite.Name != `dreamood d <&> "x"` || suite.Tests != 2 || suite.Failures != 1 || suite.Cases[0].Failure == nil || suite.Cases[1].Failure != nil || suite.Cases[0].Name != "not fpr95>1%" {
		t.Errorf("%+v\n%s", suite, b.String())
	}
}
