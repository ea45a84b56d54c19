package evaluation

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/dreamood/dreamood/internal/npy"
)

// Names of the files of a measurement. The scores of the ID pictures are id/SCORE.npy [N] float32, those of an OOD set
// ood/NAME/SCORE.npy, those of a shifted set shifted/NAME/SCORE.npy; beside them stand labels.npy and predicted.npy [N]
// (whole numbers as float32), confidence.npy [N], features.npy [N, D] where they were kept, set.json, and mistakes/*.png.
const (
	MetricsName  = "metrics.json"
	measuredName = "measured.json"
	setName      = "set.json"
)

// index is measured.json: what there is.
type index struct {
	Format   string   `json:"format"`
	Detector Detector `json:"detector"`
	OOD      []string `json:"ood"`
	Shifted  []string `json:"shifted"`
}

const format = "dreamood-measured/1"

// about is set.json.
type about struct {
	Name     string    `json:"name"`
	Group    string    `json:"group,omitempty"`
	Files    []string  `json:"files"`
	Mistakes []Mistake `json:"mistakes"`
}

// Write hands over every file of a measurement; its summary goes first, what marks it as complete last.
func (m *Measured) Write(s Summary, put func(name string, data []byte) error) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write measurements: %w", err)
	}
	if err := put(MetricsName, append(text, '\n')); err != nil {
		return err
	}
	all := index{Format: format, Detector: m.Detector}
	if err := m.ID.write("id", put); err != nil {
		return err
	}
	for _, set := range m.OOD {
		all.OOD = append(all.OOD, set.Name)
		if err := set.write(path.Join("ood", set.Name), put); err != nil {
			return err
		}
	}
	for _, set := range m.Shifted {
		all.Shifted = append(all.Shifted, set.Name)
		if err := set.write(path.Join("shifted", set.Name), put); err != nil {
			return err
		}
	}
	if text, err = json.Marshal(all); err != nil {
		return fmt.Errorf("write measurements: %w", err)
	}
	return put(measuredName, append(text, '\n'))
}

func (s Set) write(dir string, put func(string, []byte) error) error {
	array := func(name string, data []float32, shape ...int) error {
		var b bytes.Buffer
		if err := npy.Write(&b, data, shape...); err != nil {
			return fmt.Errorf("write %s of %s: %w", name, s.Name, err)
		}
		return put(path.Join(dir, name+".npy"), b.Bytes())
	}
	n := s.Len()
	errs := []error{array("predicted", whole(s.Predicted), n), array("confidence", s.Confidence, n)}
	for _, name := range sortedNames(s.Scores) {
		errs = append(errs, array(name, s.Scores[name], n))
	}
	if s.Labels != nil {
		errs = append(errs, array("labels", whole(s.Labels), n))
	}
	if s.Features != nil {
		errs = append(errs, array("features", s.Features, n, len(s.Features)/n))
	}
	for _, m := range s.Mistakes {
		errs = append(errs, put(path.Join(dir, m.Picture), m.PNG))
	}
	text, err := json.Marshal(about{s.Name, s.Group, s.Files, s.Mistakes})
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", setName, s.Name, err)
	}
	return errors.Join(append(errs, put(path.Join(dir, setName), append(text, '\n')))...)
}

// Archive is the measurement as a zip archive; the same measurement gives the same bytes.
func (m *Measured) Archive(s Summary) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := m.Write(s, func(name string, data []byte) error {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("archive measurements: %w", err)
	}
	return b.Bytes(), nil
}

// maxFile bounds a file of a measurement that is read, in bytes.
const maxFile = 2 << 30

// Read reads a measurement from a folder (os.DirFS) or an opened archive (zip.Reader). Features are left out.
func Read(files fs.FS) (*Measured, error) {
	var all index
	if err := readJSON(files, measuredName, &all); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no measurement is there (%s): write one with dreamood score --out", measuredName)
		}
		return nil, err
	}
	if all.Format != format {
		return nil, fmt.Errorf("%s is of the format %q, want %s", measuredName, all.Format, format)
	}
	m := &Measured{Detector: all.Detector}
	var err error
	if m.ID, err = read(files, "id", all.Detector, true); err != nil {
		return nil, err
	}
	for _, name := range all.OOD {
		s, err := read(files, path.Join("ood", name), all.Detector, false)
		if err != nil {
			return nil, err
		}
		m.OOD = append(m.OOD, s)
	}
	for _, name := range all.Shifted {
		s, err := read(files, path.Join("shifted", name), all.Detector, true)
		if err != nil {
			return nil, err
		}
		m.Shifted = append(m.Shifted, s)
	}
	return m, nil
}

func read(files fs.FS, dir string, d Detector, labelled bool) (Set, error) {
	var a about
	if err := readJSON(files, path.Join(dir, setName), &a); err != nil {
		return Set{}, err
	}
	s := Set{Name: a.Name, Group: a.Group, Files: a.Files, Mistakes: a.Mistakes, Scores: map[string][]float32{}}
	n := -1
	array := func(name string) ([]float32, error) {
		f, err := files.Open(path.Join(dir, name+".npy"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, shape, err := npy.Read(io.LimitReader(f, maxFile))
		if err != nil {
			return nil, fmt.Errorf("%s/%s.npy: %w", dir, name, err)
		}
		if n < 0 {
			n = len(data)
		}
		if len(shape) != 1 || len(data) != n || n == 0 {
			return nil, fmt.Errorf("%s/%s.npy has the shape %v; want [%d], one value for each picture", dir, name, shape, n)
		}
		return data, nil
	}
	predicted, err := array("predicted")
	if err != nil {
		return s, err
	}
	if s.Predicted, err = labels(predicted, len(d.Classes)); err != nil {
		return s, fmt.Errorf("%s/predicted.npy: %w", dir, err)
	}
	if s.Confidence, err = array("confidence"); err != nil {
		return s, err
	}
	for _, name := range d.Scores {
		if s.Scores[name], err = array(name); err != nil {
			return s, err
		}
	}
	if labelled {
		values, err := array("labels")
		if err != nil {
			return s, err
		}
		if s.Labels, err = labels(values, len(d.Classes)); err != nil {
			return s, fmt.Errorf("%s/labels.npy: %w", dir, err)
		}
	}
	for i := range s.Mistakes {
		m := &s.Mistakes[i]
		if !fs.ValidPath(m.Picture) {
			return s, fmt.Errorf("%s/%s: %q is no path of a picture", dir, setName, m.Picture)
		}
		if m.PNG, err = fs.ReadFile(files, path.Join(dir, m.Picture)); err != nil {
			return s, err
		}
	}
	return s, nil
}

func readJSON(files fs.FS, name string, into any) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func whole(values []int) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

func labels(values []float32, classes int) ([]int, error) {
	out := make([]int, len(values))
	for i, v := range values {
		out[i] = int(v)
		if float32(out[i]) != v || out[i] < 0 || out[i] >= classes {
			return nil, fmt.Errorf("value %d is %g; want a class from 0 to %d", i, v, classes-1)
		}
	}
	return out, nil
}

func sortedNames(m map[string][]float32) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
