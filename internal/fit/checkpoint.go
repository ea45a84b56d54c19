package fit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dreamood/dreamood/internal/train"
)

// checkpoint is one file: the loss curve as a line of JSON, then the state of the training engine. It is replaced
// as a whole, so that a process killed at any time leaves the last complete one.
type checkpoint struct{ path string }

// partial follows the name of a checkpoint in that of a file which is still written.
const partial = ".tmp-"

func (c checkpoint) load(t *train.Trainer) ([]Point, error) {
	if c.path == "" {
		return nil, nil
	}
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w; delete the file to train from the beginning", c.path, err)
	}
	var curve []Point
	if err := json.Unmarshal(line, &curve); err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w; delete the file to train from the beginning", c.path, err)
	}
	if err := t.LoadState(r); err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w; delete the file to train from the beginning", c.path, err)
	}
	return curve, nil
}

func (c checkpoint) save(t *train.Trainer, curve []Point) error {
	if c.path == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(c.path), 0o755)
	if err == nil {
		err = c.write(t, curve)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", c.path, err)
	}
	return nil
}

func (c checkpoint) write(t *train.Trainer, curve []Point) error {
	f, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+partial+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	line, err := json.Marshal(curve)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil {
		err = t.SaveState(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.path)
}

// Path is the checkpoint of a task in a folder; "" where no folder is kept.
func Path(folder, task string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, task+".ckpt")
}

// Remove deletes a checkpoint whose task has ended, with what a process that was killed while writing left of it. A
// missing one is no error.
func Remove(path string) error {
	if path == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); name != filepath.Base(path) && !strings.HasPrefix(name, filepath.Base(path)+partial) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
