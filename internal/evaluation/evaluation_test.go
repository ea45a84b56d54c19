package evaluation

import (
	"archive/zip"
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/score"
)

func TestSummaryAddsUp(t *testing.T) {
	m := measuredAt("d", 2, 0, "p")
	s, err := m.Summarise(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(s.ID.Accuracy-0.9) > 1e-9 || s.ID.Count != 600 || math.Abs(s.ID.ECE) > 1e-6 {
		t.Errorf("ID: %+v; 90 %% are right at a confidence of 0.9", s.ID)
	}
	for k, set := range m.OOD {
		want, err := score.Evaluate(score.Widen(m.ID.Scores["energy"]), score.Widen(set.Scores["energy"]))
		if err != nil || s.OOD[k].Metrics != want || s.OOD[k].ByScore["energy"] != want {
			t.Errorf("%s: %+v, want %+v, %v", set.Name, s.OOD[k].Metrics, want, err)
		}
		// An independent bootstrap of the same size: the ends of both are noisy by a few tenths of their width.
		ref, err := score.Bootstrap(score.Widen(m.ID.Scores["energy"]), score.Widen(set.Scores["energy"]), Resamples, Level, 9)
		if err != nil {
			t.Fatal(err)
		}
		got := s.OOD[k].Intervals.AUROC
		if width := ref.AUROC.High - ref.AUROC.Low; math.Abs(got.Low-ref.AUROC.Low) > 0.3*width || math.Abs(got.High-ref.AUROC.High) > 0.3*width {
			t.Errorf("%s: AUROC between %+v, by another bootstrap %+v", set.Name, got, ref.AUROC)
		}
	}
	if len(s.Averages) != 3 || s.Averages[0].Group != All || s.Averages[0].Sets != 3 || s.Averages[1].Group != Near || s.Averages[2].Sets != 1 {
		t.Fatalf("averages %+v", s.Averages)
	}
	mean := (s.OOD[0].FPR95IDPositive + s.OOD[1].FPR95IDPositive + s.OOD[2].FPR95IDPositive) / 3
	if a := s.Averages[0]; math.Abs(a.FPR95IDPositive-mean) > 1e-12 || !(a.Intervals.FPR95IDPositive.Low < mean && mean < a.Intervals.FPR95IDPositive.High) {
		t.Errorf("mean %+v, want FPR95 %g within its interval", a, mean)
	}
	if len(s.Shifted) != 1 || math.Abs(s.ShiftedAccuracy-0.9) > 1e-9 {
		t.Errorf("shifted %+v, mean %g", s.Shifted, s.ShiftedAccuracy)
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	m := measuredAt("d", 2, 0, "p")
	m.ID.Features = normals(600*4, 8, 0)
	got, err := Read(folder(t, m))
	if err != nil {
		t.Fatal(err)
	}
	m.ID.Features = nil
	if !reflect.DeepEqual(got.ID, m.ID) || !reflect.DeepEqual(got.Shifted, m.Shifted) || !reflect.DeepEqual(got.Detector, m.Detector) {
		t.Error("the ID set, the shifted sets or the detector came back different")
	}
	for k := range m.OOD {
		if !slices.Equal(got.OOD[k].Scores["msp"], m.OOD[k].Scores["msp"]) || got.OOD[k].Group != m.OOD[k].Group || len(got.OOD[k].Mistakes) != len(m.OOD[k].Mistakes) {
			t.Errorf("OOD set %s came back different", m.OOD[k].Name)
		}
	}
	s, _ := m.Summarise(t.Context())
	first, err := m.Archive(s)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := m.Archive(s); !bytes.Equal(first, again) {
		t.Error("the same measurement gives two archives")
	}
	z, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	if from, err := Read(z); err != nil || !reflect.DeepEqual(from.ID, m.ID) {
		t.Errorf("out of the archive: %v", err)
	}
}

func TestDamagedFoldersAreRefused(t *testing.T) {
	array := func(shape []int, values ...float32) *fstest.MapFile {
		var b bytes.Buffer
		if err := npy.Write(&b, values, shape...); err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: b.Bytes()}
	}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		file string
		with *fstest.MapFile
		says string
	}{
		"nothing there":   {"measured.json", nil, "dreamood score --out"},
		"another format":  {"measured.json", &fstest.MapFile{Data: []byte(`{"format":"x"}`)}, `format "x"`},
		"no JSON":         {"measured.json", &fstest.MapFile{Data: []byte(`{`)}, "measured.json"},
		"a missing score": {"id/msp.npy", nil, "id/msp.npy"},
		"too few":         {"ood/far1/energy.npy", array([]int{2}, 1, 2), "want [500]"},
		"two columns":     {"ood/far1/energy.npy", array([]int{250, 2}, make([]float32, 500)...), "shape [250 2]"},
		"no array":        {"ood/far1/energy.npy", &fstest.MapFile{Data: []byte("hello")}, "ood/far1/energy.npy"},
		"half a class":    {"id/labels.npy", array([]int{600}, append(make([]float32, 599), 0.5)...), "value 599 is 0.5"},
		"a fourth class":  {"id/labels.npy", array([]int{600}, append(make([]float32, 599), 3)...), "from 0 to 2"},
	} {
		files := folder(t, measuredAt("d", 2, 0, "p"))
		if files[c.file] = c.with; c.with == nil {
			delete(files, c.file)
		}
		if _, err := Read(files); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	files := folder(t, measuredAt("d", 2, 0, "p"))
	files["ood/far1/energy.npy"] = array([]int{500}, append(make([]float32, 499), nan)...)
	m, err := Read(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Summarise(t.Context()); err == nil || !strings.Contains(err.Error(), "far1") || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("a score that is not a number: %v", err)
	}
}

func TestSpread(t *testing.T) {
	var list []Summary
	for _, gap := range []float32{1.8, 2, 2.2} {
		s, err := measuredAt("d", gap, 0, "p").Summarise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	rows, err := Over(list)
	if err != nil || len(rows) != 1+3+3 || rows[1].Name != All || rows[4].Name != "near1" {
		t.Fatalf("%v, %v", rows, err)
	}
	a, b, c := list[0].Averages[0].AUROC, list[1].Averages[0].AUROC, list[2].Averages[0].AUROC
	mean := (a + b + c) / 3
	sd := math.Sqrt(((a-mean)*(a-mean) + (b-mean)*(b-mean) + (c-mean)*(c-mean)) / 2)
	if got := rows[1].Values["auroc"]; math.Abs(got.Mean-mean) > 1e-12 || math.Abs(got.SD-sd) > 1e-12 || sd == 0 {
		t.Errorf("AUROC %+v, want %g ± %g", got, mean, sd)
	}
	list[1].OOD = list[1].OOD[1:]
	if _, err := Over(list); err == nil || !strings.Contains(err.Error(), "other OOD sets") {
		t.Errorf("other sets: %v", err)
	}
}
