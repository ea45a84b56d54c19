package generator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// saveShare and saveEvery bound what checkpoints cost: the next one waits a hundred times as long as the last one took
// to write, and at least a second.
const (
	saveShare = 100
	saveEvery = time.Second
)

// progress is what a shard under way has, kept in a file: its finished pictures and the batch that is denoised. The file
// is replaced as a whole and begins with a checksum, so that a process may be killed at any time; it is not synced, for
// a lost one costs work and nothing else. One that is damaged or of other pictures is left out of account, with a note.
// A nil progress keeps nothing.
type progress struct {
	path   string
	note   func(what string, err error) // for the log; err is nil where nothing is wrong
	wanted func(end error) bool         // says whether somebody goes on with work that ended so
	timed  func() (end func())          // measures a save; optional

	kept  content
	saved time.Time
	took  time.Duration // of the last save
}

// content is that of the file.
type content struct {
	Key      [sha256.Size]byte // of what is rendered, see keyOf
	Pictures []Rendered
	Batch    *diffusion.Checkpoint // of the pictures after those; nil between batches
}

// keyOf tells apart everything that the bytes of pictures depend on.
func keyOf(model string, d Decoding, batch int, work []Work) (key [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "3 %q %#v %d\n", model, d, batch)
	for _, w := range work {
		fmt.Fprintf(h, "%q %d %d %q %t %x %x %x %#v\n", w.Class, w.Label, w.Index, w.Word, w.Embedding != nil, w.Embedding, sha256.Sum256(w.Init), w.Latents, d.of(w))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// open reads what was kept of the pictures of key.
func (p *progress) open(key [sha256.Size]byte) {
	if p == nil {
		return
	}
	found, err := readKept(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		p.note("checkpoint is ignored", err)
	case found.Key != key:
		p.note("checkpoint is ignored", errors.New("it is of other pictures"))
	default:
		p.kept = found
		p.note(fmt.Sprintf("shard goes on from its checkpoint, after %d pictures", len(found.Pictures)), nil)
	}
	p.kept.Key = key
}

// pictures are n kept ones from the first on, if all of them are there.
func (p *progress) pictures(first, n int) ([]Rendered, bool) {
	if p == nil || first+n > len(p.kept.Pictures) {
		return nil, false
	}
	return p.kept.Pictures[first : first+n], true
}

// from is where the batch that comes next was.
func (p *progress) from() *diffusion.Checkpoint {
	if p == nil {
		return nil
	}
	return p.kept.Batch
}

// step is what takes the checkpoints of a batch, or nil.
func (p *progress) step() func(diffusion.Checkpoint) {
	if p == nil {
		return nil
	}
	return func(c diffusion.Checkpoint) {
		p.kept.Batch = &c
		p.save(false)
	}
}

// batch keeps the pictures of a batch that is done.
func (p *progress) batch(pictures []Rendered) {
	if p == nil {
		return
	}
	p.kept.Pictures, p.kept.Batch = append(p.kept.Pictures, pictures...), nil
	p.save(false)
}

// interrupted keeps what there is when work is given back; the one that goes on with it may be another process.
func (p *progress) interrupted(ctx context.Context) {
	end := context.Cause(ctx)
	if p != nil && end != nil && p.wanted(end) {
		p.save(true)
	}
}

// save writes the file, unless it was written too short a time ago. That it could not costs a line in the log: the
// shard goes on.
func (p *progress) save(now bool) {
	if began := time.Now(); now || began.Sub(p.saved) >= max(saveEvery, saveShare*p.took) {
		end := func() {}
		if p.timed != nil {
			end = p.timed()
		}
		if err := p.kept.write(p.path); err != nil {
			p.note("checkpoint is not written", err)
		}
		end()
		p.saved = time.Now()
		p.took = p.saved.Sub(began)
	}
}

func (p *progress) remove() {
	if p == nil {
		return
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.note("checkpoint is left", err)
	}
}

func (k *content) write(path string) error {
	file := bytes.NewBuffer(make([]byte, sha256.Size))
	if err := gob.NewEncoder(file).Encode(k); err != nil {
		return err
	}
	data := file.Bytes()
	sum := sha256.Sum256(data[sha256.Size:])
	copy(data, sum[:])
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func readKept(path string) (k content, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return k, err
	}
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data[:sha256.Size]) {
		return k, errors.New("it is damaged: the checksum is not that of its content")
	}
	err = gob.NewDecoder(bytes.NewReader(data[sha256.Size:])).Decode(&k)
	return k, err
}

// RemoveCheckpoints deletes those of all shards of the runs of one origin, with what a process that was killed while
// writing left. None is no error.
func RemoveCheckpoints(folder, origin string) error {
	if folder == "" || origin == "" {
		return nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), origin+"-") {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
