package trainer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/onnx"
	scores "github.com/dreamood/dreamood/internal/score/method"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// sample opens a few real pictures.
func sample(t *testing.T, file string, perClass int) *dataset.Dataset {
	t.Helper()
	ds, err := dataset.Open(t.Context(), "../../sample/"+file, dataset.Options{Size: imageSize, PerClass: perClass})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// trainSmall trains a method for some steps.
func trainSmall(t *testing.T, in Pictures, q *trainerv1.DetectorTraining) (Trained, Settings) {
	t.Helper()
	q.Epochs, q.BatchSize, q.OutlierBatchSize, q.Width = max(1, q.Epochs), 32, 16, 8
	set := ""
	if in.Outliers != nil {
		set = "sets/s"
	}
	s, err := settingsOf(q, set)
	if err != nil {
		t.Fatal(err)
	}
	about, err := metadata(&trainerv1.TrainDetectorRequest{DetectorId: "d", Set: set}, in.ID, s)
	if err != nil {
		t.Fatal(err)
	}
	trained, err := TrainDetector(t.Context(), in, s, onnx.Config{Threads: 1}, "", about, func(int64, int64, string) {})
	if err != nil {
		t.Fatalf("%s: %v", q.Method, err)
	}
	return trained, s
}

// TestEveryMethodTrains trains each on real pictures and one outlier set, and looks at what is written into the ONNX file.
func TestEveryMethodTrains(t *testing.T) {
	id := sample(t, "cifar10_train.tar.gz", 12)
	outliers := id.Subset(spreadOver(id.Len(), 40)) // some of them, so that dream-id finds their classes
	for i := range outliers.Pixels {
		outliers.Pixels[i] ^= 0x55
	}
	first := map[string]float64{}
	for _, m := range methods {
		in := Pictures{ID: id}
		if m.set {
			in.Outliers = outliers
		}
		trained, s := trainSmall(t, in, &trainerv1.DetectorTraining{Method: m.name})
		session, err := onnx.NewSession(trained.Model, onnx.Config{Threads: 1})
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		about, outputs := session.Metadata(), session.Outputs()
		session.Close()
		var training map[string]any
		if err := json.Unmarshal([]byte(about["dreamood.training"]), &training); err != nil || training["method"] != m.name || about["dreamood.method"] != m.name {
			t.Errorf("%s: the file says %v, %v", m.name, about, err)
		}
		head := slices.ContainsFunc(outputs, func(o onnx.IO) bool { return o.Name == scores.Head })
		if head != m.head || (s.Score == scores.Head) != m.head || about["dreamood.score"] != s.Score {
			t.Errorf("%s: has a head %v, and %s decides", m.name, head, s.Score)
		}
		if learns := m.loss != nil; trained.Loss[0].OOD > 0 != learns {
			t.Errorf("%s: the loss of outliers begins with %g", m.name, trained.Loss[0].OOD)
		}
		first[m.name] = trained.Loss[0].Total
	}
	if len(first) < len(methods) || first["fever"] <= first[dreamOOD] || first["random-prompt"] != first[dreamOOD] {
		t.Errorf("first losses %v; fever adds a term to dream-ood, random-prompt is dream-ood on another set", first)
	}
}

// TestOptionsChangeTheTraining trains with each option once; another loss says that it did something.
func TestOptionsChangeTheTraining(t *testing.T) {
	id := sample(t, "cifar10_train.tar.gz", 12)
	in := Pictures{ID: id, Outliers: sample(t, "cifar10_test.zip", 3)}
	seen := map[float64]string{}
	for name, q := range map[string]*trainerv1.DetectorTraining{
		"none": {Method: "fever"}, "hidden": {Method: "fever", Hidden: 6}, "weight": {Method: "fever", SingularWeight: 0.3},
		"condition": {Method: "fever", ConditionNumber: true}, "no augmentation": {Method: "fever", Augmentation: &trainerv1.Augmentation{}}, "operations": {Method: "fever", Augmentation: &trainerv1.Augmentation{Operations: 2}},
	} {
		trained, _ := trainSmall(t, in, q)
		if other, ok := seen[trained.Loss[0].Total]; ok {
			t.Errorf("%s and %s train alike", name, other)
		}
		seen[trained.Loss[0].Total] = name
	}
}

// TestInliersAreOfTheirClass: other labels of the inliers, or another weight, make another training.
func TestInliersAreOfTheirClass(t *testing.T) {
	id := sample(t, "cifar10_train.tar.gz", 12)
	wrong := id.Subset(spreadOver(id.Len(), id.Len()))
	for i := range wrong.Labels {
		wrong.Labels[i] = (wrong.Labels[i] + 1) % int32(len(id.Classes))
	}
	seen := map[float64]bool{}
	for _, c := range []struct {
		inliers *dataset.Dataset
		beta    float64
	}{{id, 1}, {wrong, 1}, {id, 3}} {
		trained, _ := trainSmall(t, Pictures{ID: id, Outliers: c.inliers}, &trainerv1.DetectorTraining{Method: "dream-id", Beta: c.beta})
		seen[trained.Loss[0].CE] = true
	}
	if len(seen) != 3 {
		t.Errorf("labels and weight of inliers make %d different trainings of 3", len(seen))
	}
}

func TestMethodsAreCheckedBeforeTraining(t *testing.T) {
	for _, c := range []struct {
		q     *trainerv1.DetectorTraining
		set   string
		field string
		says  string
	}{
		{&trainerv1.DetectorTraining{Method: "magic"}, "", "training.method", "dream-ood, oe, extra-class"},
		{&trainerv1.DetectorTraining{Method: "oe"}, "", "set", "name one"},
		{&trainerv1.DetectorTraining{Method: "vanilla"}, "sets/s", "set", "without a set"},
		{&trainerv1.DetectorTraining{Method: "oe", Hidden: 4}, "sets/s", "training.hidden", "no φ"},
		{&trainerv1.DetectorTraining{Hidden: -1}, "sets/s", "training.hidden", "0 to 4096"},
		{&trainerv1.DetectorTraining{SingularWeight: 1}, "sets/s", "training.singular_weight", "fever has"},
		{&trainerv1.DetectorTraining{Method: "fever", SingularWeight: -1}, "sets/s", "training.singular_weight", "above 0"},
		{&trainerv1.DetectorTraining{Method: "oe", Score: "head"}, "sets/s", "training.score", "trains no head"},
		{&trainerv1.DetectorTraining{OutlierResize: "lanczos"}, "sets/s", "training.outlier_resize", "bilinear, nearest, random, crop"},
		{&trainerv1.DetectorTraining{OutlierResize: "crop"}, "", "training.outlier_resize", "no outliers"},
		{&trainerv1.DetectorTraining{CodecShare: 0.5}, "", "training.codec_share", "codec_model"},
		{&trainerv1.DetectorTraining{CodecShare: 1.5}, "sets/s", "training.codec_share", "0 to 1"},
		{&trainerv1.DetectorTraining{CodecModel: "m"}, "sets/s", "training.codec_model", "codec_share"},
		{&trainerv1.DetectorTraining{Augmentation: &trainerv1.Augmentation{Pad: 40}}, "", "training.augmentation", "padding is 40"},
		{&trainerv1.DetectorTraining{Augmentation: &trainerv1.Augmentation{Magnitude: 9}}, "", "training.augmentation", "without operations"},
		{&trainerv1.DetectorTraining{Method: "dream-ood", Beta: -1}, "sets/s", "training.beta", "above 0"},
	} {
		_, err := settingsOf(c.q, c.set)
		if got := fieldsOf(err); !slices.Equal(got, []string{c.field}) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v with set %q: %v, want a problem with %s that says %q", c.q, c.set, err, c.field, c.says)
		}
	}
	m, err := methodNamed("random-prompt", "sets/s")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.fits(&generatorv1.Set{Name: "sets/s", Source: generatorv1.Source_SOURCE_OUTLIERS}); !slices.Equal(fieldsOf(err), []string{"set"}) {
		t.Errorf("random-prompt on sampled embeddings: %v", err)
	}
	if err := m.fits(&generatorv1.Set{Name: "sets/s", Source: generatorv1.Source_SOURCE_WORDS}); err != nil {
		t.Errorf("random-prompt on words: %v", err)
	}
	for name, sampling := range map[string]string{"vos": "gaussian", "npos": "npos"} {
		m, err := methodNamed(name, "sets/s")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.fits(&generatorv1.Set{Name: "sets/s"}); !slices.Equal(fieldsOf(err), []string{"set"}) {
			t.Errorf("%s on knn outliers: %v", name, err)
		}
		if err := m.fits(&generatorv1.Set{Name: "sets/s", Sampling: &samplerv1.Sampling{Method: sampling}}); err != nil {
			t.Errorf("%s on its own: %v", name, err)
		}
	}
}
