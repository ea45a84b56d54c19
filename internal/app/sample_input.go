package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
)

// inputs are the files of a sampling. The bank stays on disk; a class of it is read when it is needed.
type inputs struct {
	file    *npy.File
	dim     int
	sizes   []int         // rows of every class
	rows    [][]int       // of every class, where labels say them; nil where classes stand one after another
	anchors matrix.Matrix // [C, D]; empty where there are none
	noise   matrix.Matrix // [rounds·noises, D]; empty where there is none
	noises  int           // candidates per round of noise
}

func (in *inputs) close() { in.file.Close() }

// checkFiles refuses a request whose files are named twice, or not at all.
func (j Sampling) checkFiles() error {
	var checks fault.Checks
	checks.That(j.Bank != "", "--bank", "names no file")
	checks.That(j.Out != "", "--out", "names no file")
	taken := map[string]string{}
	for _, f := range []struct{ flag, path string }{
		{"--bank", j.Bank}, {"--labels", j.Labels}, {"--anchors", j.Anchors}, {"--noise", j.Noise},
		{"--out", j.Out}, {"--report", j.Report}, {"--picks", j.Picks}, {"--map", j.Map},
	} {
		if f.path == "" {
			continue
		}
		path, err := filepath.Abs(f.path)
		if err != nil {
			checks.Add(f.flag, "%s: %v", f.path, err)
		}
		if other := taken[path]; other != "" {
			checks.Add(f.flag, "%s is the file of %s too; name another", f.path, other)
		}
		taken[path] = f.flag
	}
	return checks.Err()
}

// openInputs opens and reads the files and holds their shapes against each other.
func openInputs(j Sampling) (*inputs, error) {
	file, err := npy.Open(j.Bank)
	if err != nil {
		return nil, fault.Invalid("--bank", "%w", named(j.Bank, err))
	}
	in := &inputs{file: file}
	var checks fault.Checks
	switch shape := file.Shape(); len(shape) {
	case 3:
		in.dim = shape[2]
		for range shape[0] {
			in.sizes = append(in.sizes, shape[1])
		}
		checks.That(j.Labels == "", "--labels", "%s has shape %v, a row of classes already; labels belong to a bank [N, D]", j.Bank, shape)
	case 2:
		in.dim, in.sizes = shape[1], []int{shape[0]}
		if j.Labels != "" {
			if err := in.label(j, shape[0]); err != nil {
				checks.Add("--labels", "%v", err)
			}
		}
	default:
		checks.Add("--bank", "%s has shape %v; want [classes, n, D], or [n, D] for one class", j.Bank, shape)
	}
	if err := checks.Err(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	checks.That(in.dim > 0 && len(in.sizes) > 0, "--bank", "%s has shape %v and holds nothing", j.Bank, file.Shape())
	in.readAnchors(j, &checks)
	in.readNoise(j, &checks)
	if err := checks.Err(); err != nil {
		file.Close()
		return nil, err
	}
	return in, nil
}

// label sorts the rows of a bank [N, D] by class.
func (in *inputs) label(j Sampling, n int) error {
	f, err := os.Open(j.Labels)
	if err != nil {
		return err
	}
	defer f.Close()
	labels, err := npy.ReadLabels(f)
	if err != nil {
		return named(j.Labels, err)
	}
	if len(labels) != n {
		return fmt.Errorf("%s has %d labels for the %d rows of %s", j.Labels, len(labels), n, j.Bank)
	}
	in.rows = nil
	for row, class := range labels {
		if class < 0 || class >= n {
			return fmt.Errorf("%s: row %d has class %d; number the classes from 0", j.Labels, row, class)
		}
		for len(in.rows) <= class {
			in.rows = append(in.rows, nil)
		}
		in.rows[class] = append(in.rows[class], row)
	}
	in.sizes = nil
	for class, rows := range in.rows {
		if len(rows) == 0 {
			return fmt.Errorf("%s: no row has class %d; number the classes from 0 without gaps", j.Labels, class)
		}
		in.sizes = append(in.sizes, len(rows))
	}
	return nil
}

func (in *inputs) readAnchors(j Sampling, checks *fault.Checks) {
	if j.Anchors == "" {
		return
	}
	data, shape, err := readArray(j.Anchors)
	switch {
	case err != nil:
		checks.Add("--anchors", "%v", err)
	case len(shape) != 2 || shape[0] != len(in.sizes) || shape[1] != in.dim:
		checks.Add("--anchors", "%s has shape %v; want [%d, %d], one row for every class of %s", j.Anchors, shape, len(in.sizes), in.dim, j.Bank)
	default:
		in.anchors = matrix.Matrix{Rows: shape[0], Cols: shape[1], Data: data}
		if _, err := in.anchors.Normalised(); err != nil {
			checks.Add("--anchors", "%s: %v", j.Anchors, err)
		}
	}
}

func (in *inputs) readNoise(j Sampling, checks *fault.Checks) {
	if j.Noise == "" {
		return
	}
	data, shape, err := readArray(j.Noise)
	if err != nil {
		checks.Add("--noise", "%v", err)
		return
	}
	if len(shape) == 2 {
		shape = append([]int{1}, shape...)
	}
	if len(shape) != 3 || shape[0] < 1 || shape[1] < 1 || shape[2] != in.dim {
		checks.Add("--noise", "%s has shape %v; want [rounds, candidates, %d]", j.Noise, shape, in.dim)
		return
	}
	in.noises = shape[1]
	in.noise = matrix.Matrix{Rows: shape[0] * shape[1], Cols: in.dim, Data: data}
	if err := in.noise.Check(); err != nil {
		checks.Add("--noise", "%s: %v", j.Noise, err)
	}
}

// verify looks at every row of the classes wanted: values that are not finite and rows without a direction are refused.
func (in *inputs) verify(ctx context.Context, j Sampling, classes []int) error {
	for _, class := range classes {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		bank, err := in.bank(class)
		if err != nil {
			return named(j.Bank, err)
		}
		if _, err := bank.Normalised(); err != nil {
			return fault.Invalid("--bank", "%s, class %d: %w; leave such rows out", j.Bank, class, err)
		}
	}
	return nil
}

// bank reads the ID embeddings of a class.
func (in *inputs) bank(class int) (matrix.Matrix, error) {
	m := matrix.New(in.sizes[class], in.dim)
	if in.rows == nil {
		return m, in.file.ReadAt(m.Data, class*in.sizes[class]*in.dim)
	}
	for i, row := range in.rows[class] {
		if err := in.file.ReadAt(m.Row(i), row*in.dim); err != nil {
			return matrix.Matrix{}, err
		}
	}
	return m, nil
}

// banks reads all classes, for the methods that share a statistic between them.
func (in *inputs) banks(ctx context.Context) ([]matrix.Matrix, error) {
	list := make([]matrix.Matrix, len(in.sizes))
	for class := range list {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		var err error
		if list[class], err = in.bank(class); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// readArray reads a whole array of float32.
func readArray(path string) ([]float32, []int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, shape, err := npy.Read(f)
	return data, shape, named(path, err)
}

// named puts the file in front of an error that does not name it.
func named(path string, err error) error {
	var known *os.PathError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func violationsOf(err error) []fault.Violation {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Violations
	}
	return nil
}
