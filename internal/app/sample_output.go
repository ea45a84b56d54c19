package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/services/sampler"
)

// outputs are the files of a sampling. They are written beside their places and appear together at the end.
type outputs struct {
	files      pendings
	embeddings *npy.Writer
	picks      *pending // nil where none are wanted
	picked     int
	report     *pending
	drawing    *pending
}

// pending is a file that has not appeared yet.
type pending struct {
	*bufio.Writer
	file *os.File
	path string
}

// createOutputs makes the files before any sample is drawn, so that a place that cannot be written costs nothing.
func (j Sampling) createOutputs(shape []int) (*outputs, error) {
	o := &outputs{}
	var err error
	create := func(path string) *pending {
		if path == "" || err != nil {
			return nil
		}
		var p *pending
		if p, err = newPending(path); err == nil {
			o.files = append(o.files, p)
		}
		return p
	}
	out := create(j.Out)
	o.picks, o.report, o.drawing = create(j.Picks), create(j.Report), create(j.Map)
	if err == nil {
		o.embeddings, err = npy.NewWriter(out, shape...)
	}
	if err != nil {
		o.discard()
		return nil, err
	}
	return o, nil
}

func newPending(path string) (*pending, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &pending{bufio.NewWriterSize(f, 1<<18), f, path}, nil
}

// pendings are files that appear together.
type pendings []*pending

// appear puts the files in their places, the first one last, when all are on the disk.
func (all *pendings) appear() error {
	for _, p := range *all {
		for _, step := range []func() error{p.Flush, func() error { return p.file.Chmod(0o644) }, p.file.Sync, p.file.Close} {
			if err := step(); err != nil {
				return fmt.Errorf("write %s: %w", p.path, err)
			}
		}
	}
	for _, p := range slices.Backward(*all) {
		if err := os.Rename(p.file.Name(), p.path); err != nil {
			return fmt.Errorf("write %s: %w", p.path, err)
		}
	}
	*all = nil
	return nil
}

// discard removes what did not appear.
func (all pendings) discard() {
	for _, p := range all {
		p.file.Close()
		os.Remove(p.file.Name())
	}
}

// pick says where an outlier comes from.
type pick struct {
	Class          uint32  `json:"class"`
	Index          int     `json:"index"`               // along the second axis of the file
	Round          int     `json:"round"`               // first axis of the noise
	Noise          int     `json:"noise"`               // second axis of the noise
	Source         int     `json:"source"`              // row of the bank of the class
	Rank           int     `json:"rank"`                // among the candidates of its source in its round, from 0
	Distance       float32 `json:"kth_distance"`        // squared L2
	SourceDistance float32 `json:"source_kth_distance"` // the same of the source
	SourceCosine   float32 `json:"cosine_to_source"`    //
	AnchorCosine   float32 `json:"cosine_to_anchor"`    // 0 without anchors
}

// add writes a sample, scaled to norm.
func (o *outputs) add(s sampler.Outlier, norm float32) error {
	for i := range s.Embedding {
		s.Embedding[i] *= norm
	}
	if err := o.embeddings.Append(s.Embedding); err != nil {
		return err
	}
	if o.picks == nil {
		return nil
	}
	line, err := json.Marshal(pick{
		s.Class, s.Index, s.Round, s.NoiseIndex, s.Source, s.Rank, s.KthDistance, s.SourceKthDistance, s.CosineToSource, s.CosineToAnchor,
	})
	if err != nil {
		return err
	}
	before := ",\n"
	if o.picked == 0 {
		before = "[\n"
	}
	o.picked++
	o.picks.WriteString(before) // a bufio.Writer keeps its first error for Flush
	_, err = o.picks.Write(line)
	return err
}

// describe writes the report.
func (o *outputs) describe(s *Sampled) error {
	if o.report == nil {
		return nil
	}
	classes := make([]json.RawMessage, len(s.Reports))
	for i, r := range s.Reports {
		raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(r)
		if err != nil {
			return fmt.Errorf("write %s: %w", o.report.path, err)
		}
		classes[i] = raw
	}
	raw, err := json.Marshal(struct {
		Shape   []int             `json:"shape"`
		Tuning  *sampler.Tuning   `json:"tuning,omitempty"`
		Classes []json.RawMessage `json:"classes"`
	}{s.Shape, s.Tuning, classes})
	if err != nil {
		return fmt.Errorf("write %s: %w", o.report.path, err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return fmt.Errorf("write %s: %w", o.report.path, err)
	}
	text.WriteByte('\n')
	_, err = text.WriteTo(o.report)
	return err
}

// finish puts the files in their places, the embeddings last: where they are, everything is.
func (o *outputs) finish() error {
	if err := o.embeddings.Close(); err != nil {
		return err
	}
	if o.picks != nil {
		o.picks.WriteString("\n]\n")
	}
	return o.files.appear()
}

// discard removes what did not appear.
func (o *outputs) discard() { o.files.discard() }
