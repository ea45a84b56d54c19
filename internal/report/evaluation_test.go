package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func evaluated() EvaluationPage {
	nan := math.NaN()
	return EvaluationPage{
		Title: "Detector <d>", Generated: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC), Version: "1", Score: "knn",
		Detectors: []Detector{
			{Name: "baseline", IDScores: []float32{1, 2, 3}, Threshold: 1, OOD: []OODResult{{Name: "far", Count: 2, AUROC: 0.8, FPR95: 0.5, Scores: []float32{0, 1}, ROCFPR: []float32{0, 0.5, 1}, ROCTPR: []float32{0, 1, 1}}}},
			{Name: "new", IDScores: []float32{1, 2, 3}, Threshold: nan, OOD: []OODResult{{Name: "far", Count: 2, AUROC: nan, Scores: []float32{0, float32(nan)}}}},
		},
		Figures:    []Figure{{Name: "FPR95, all", Value: 0.25, Low: 0.2, High: 0.31, Baseline: 0.5, Change: "better"}, {Name: "AUROC", Value: nan, Baseline: nan}},
		Conditions: []ConditionRow{{Text: "fpr95>0.1", Why: "measured <b>0.25</b>", Failed: true}, {Text: "accuracy<0.5"}},
		Results:    []ResultRow{{Name: "far", FPR95: Figure{Value: 0.25, Baseline: 0.5, Change: "better"}, AUROC: Figure{Value: nan, Baseline: nan}, AUPRIn: nan}},
		Scores:     []ScoreRow{{Name: "knn", Decides: true, FPR95: 0.25, AUROC: nan, SetFPR95: []float64{0.25}}}, ScoreSets: []string{"far"},
		Shifted:  []ShiftedRow{{Name: "fog", Count: 1200, Accuracy: 0.5}},
		Mistakes: []MistakeGroup{{Title: "far: accepted", Pictures: []MistakePicture{{PNG: []byte("broken"), Caption: "cat\x1b[31m", Tip: "a.png"}}}},
	}
}

func TestEvaluationPage(t *testing.T) {
	var b bytes.Buffer
	if err := WriteEvaluation(&b, evaluated()); err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(b.String(), `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, want := range []string{"Detector &lt;d&gt;", "Refused: 1 of 2 conditions hold.", "fpr95&gt;0.1", "measured &lt;b&gt;", "25.0", "20.0 to 31.0", "−25.0",
		"no data", "unreadable picture", "1,200", "class=\"decides\"", "baseline", "24 November 2026"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	for _, never := range []string{"NaN", "<script", "http://", "https://", "src=\"/", "\x1b", "<no value>", "ZgotmplZ"} {
		if strings.Contains(page, never) {
			t.Errorf("the page holds %q", never)
		}
	}
	var again bytes.Buffer
	if err := WriteEvaluation(&again, evaluated()); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
		t.Errorf("the same page gives other bytes, %v", err)
	}
	if err := WriteEvaluation(&again, EvaluationPage{}); err != nil {
		t.Errorf("an empty page: %v", err)
	}
}
