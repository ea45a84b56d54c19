package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"path/filepath"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// What came of a line.
const (
	resultSame    = "same"    // bit for bit
	resultWithin  = "within"  // the tolerance
	resultDiffers = "differs" // by more, or by how much is not known
)

// verdict is what the replay of a line gave.
type verdict struct {
	Line       int         `json:"line"`
	File       string      `json:"file"`
	Result     string      `json:"result"`
	Want       string      `json:"want"` // sha256 of the PNG, hex
	Got        string      `json:"got"`
	Difference *difference `json:"difference,omitempty"` // absent where the original is not there, or not needed
	Note       string      `json:"note,omitempty"`
}

// difference is that of two pictures, over the channels of their pixels.
type difference struct {
	Largest int     `json:"largest"` // in 1/255
	Share   float64 `json:"share"`   // of the channels that differ, 0 to 1
	Mean    float64 `json:"mean"`    // absolute, in 1/255
}

func (v verdict) difference() string {
	if v.Difference == nil {
		return "not known: " + v.Note
	}
	return fmt.Sprintf("%d/255", v.Difference.Largest)
}

func (v verdict) share() string {
	if v.Difference == nil {
		return "-"
	}
	return percent(v.Difference.Share)
}

// differenceOf compares two PNG files of one size.
func differenceOf(a, b []byte) (difference, error) {
	x, err := pixelsOf(a)
	if err != nil {
		return difference{}, err
	}
	y, err := pixelsOf(b)
	if err != nil {
		return difference{}, err
	}
	if x.Rect.Size() != y.Rect.Size() {
		return difference{}, fmt.Errorf("the sizes differ: %v and %v", x.Rect.Size(), y.Rect.Size())
	}
	var d difference
	n, other, total := 0, 0, 0
	for i := range x.Pix {
		if i%4 == 3 { // alpha
			continue
		}
		by := int(x.Pix[i]) - int(y.Pix[i])
		by = max(by, -by)
		d.Largest = max(d.Largest, by)
		n, total = n+1, total+by
		if by > 0 {
			other++
		}
	}
	if n > 0 {
		d.Share, d.Mean = float64(other)/float64(n), float64(total)/float64(n)
	}
	return d, nil
}

func pixelsOf(file []byte) (*image.NRGBA, error) {
	c, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil || c.Width*c.Height > 1<<26 {
		return nil, fmt.Errorf("no PNG picture of at most %d pixels: %v", 1<<26, err)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	out := image.NewNRGBA(image.Rect(0, 0, c.Width, c.Height))
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out, nil
}

// originals are the pictures beside a manifest: files, or members of tar shards.
type originals struct {
	dir     string
	members map[string]member // nil: no shard has been looked into
	files   []*os.File
}

type member struct {
	file *os.File
	at   int64
	size int64
}

func newOriginals(dir string) *originals { return &originals{dir: dir} }

func (o *originals) close() {
	for _, f := range o.files {
		f.Close()
	}
}

// find returns the picture that a line is about. One whose sum is not the line's is an error.
func (o *originals) find(r *generatorv1.PictureRecord) ([]byte, error) {
	data, err := o.read(r)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != r.Sha256 {
		return nil, errors.New("the picture beside the manifest is not the one of its line")
	}
	return data, nil
}

func (o *originals) read(r *generatorv1.PictureRecord) ([]byte, error) {
	if problem := badPath(r); problem != "" {
		return nil, fmt.Errorf("the line names %q: %s", r.File, problem)
	}
	data, err := os.ReadFile(filepath.Join(o.dir, filepath.FromSlash(r.File)))
	if err == nil {
		return data, nil
	}
	if o.members == nil {
		if err := o.index(); err != nil {
			return nil, err
		}
	}
	m, ok := o.members[r.File]
	if !ok {
		return nil, errors.New("the picture is not beside the manifest")
	}
	data = make([]byte, m.size)
	_, err = m.file.ReadAt(data, m.at)
	return data, err
}

// index looks where the pictures lie in the shards.
func (o *originals) index() error {
	o.members = map[string]member{}
	names, err := filepath.Glob(filepath.Join(o.dir, "*.tar"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		o.files = append(o.files, f)
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			o.members[h.Name] = member{f, at, h.Size}
		}
	}
	return nil
}

// plain prints a value as one line of JSON.
func (s *Session) plain(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = s.Out.Write(append(line, '\n'))
	}
	return err
}
