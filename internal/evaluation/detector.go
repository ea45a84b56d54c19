package evaluation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/score/method"
)

// Keys of the metadata of a detector's ONNX file.
const (
	classesKey   = "dreamood.classes"
	methodKey    = "dreamood.method"
	setKey       = "dreamood.set"
	scoreKey     = "dreamood.score"
	thresholdKey = "dreamood.threshold." // followed by the name of the score
)

// DetectorOf is what an ONNX file says of the detector in it. score is the one that decides; "" is the file's own. The
// threshold of each was calibrated when the detector was trained.
func DetectorOf(m *infer.Model, name, score string) (Detector, error) {
	meta := m.Metadata()
	d := Detector{Name: name, Method: meta[methodKey], Set: meta[setKey], Score: score}
	if meta["dreamood.kind"] != "detector" || meta[classesKey] == "" || !m.Has("logits") {
		return d, fmt.Errorf("%s is no detector: its metadata names no classes; write one with dreamood detector download", name)
	}
	d.Classes = strings.Split(meta[classesKey], ",")
	var about []struct {
		Name string `json:"name"`
	}
	if text := meta[method.Metadata]; text == "" {
		return d, fmt.Errorf("%s was trained before detectors had several scores with their thresholds; train it again", name)
	} else if err := json.Unmarshal([]byte(text), &about); err != nil {
		return d, fmt.Errorf("%s: metadata %s: %w", name, method.Metadata, err)
	}
	for _, s := range about {
		if !m.Has(s.Name) {
			return d, fmt.Errorf("%s: its metadata names the score %s, and it has no such output", name, s.Name)
		}
		d.Scores = append(d.Scores, s.Name)
	}
	if d.Score == "" {
		d.Score = meta[scoreKey]
	}
	if !slices.Contains(d.Scores, d.Score) {
		return d, fmt.Errorf("%s has no score %q; it has %s", name, d.Score, strings.Join(d.Scores, ", "))
	}
	var err error
	if d.Threshold, err = strconv.ParseFloat(meta[thresholdKey+d.Score], 64); err != nil {
		return d, fmt.Errorf("%s: the threshold of %s in its metadata: %w", name, d.Score, err)
	}
	return d, nil
}
