package dataset

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is one entry of a dataset under test: a folder where the name ends in
// a slash, a link where target is set.
type member struct {
	name   string
	data   []byte
	target string
}

// tiny is a 4×4 PNG of one colour, which tells pictures apart.
func tiny(n int) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		img.Set(i%4, i/4, color.RGBA{uint8(n), uint8(n >> 8), 7, 255})
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img) // a buffer never fails
	return b.Bytes()
}

// animals is a good dataset of 2 classes with n pictures each.
func animals(n int, prefix string) []member {
	var ms []member
	for c, class := range []string{"cat", "dog"} {
		for i := range n {
			ms = append(ms, member{name: fmt.Sprintf("%s%s/%02d.png", prefix, class, i), data: tiny(100*c + i)})
		}
	}
	return ms
}

// kinds of packing that one dataset is tested in.
var kinds = []string{"folder", "zip", "tar", "tar.gz"}

// pack writes members in one of the kinds and returns the path.
func pack(t testing.TB, kind string, ms []member) string {
	t.Helper()
	dir := t.TempDir()
	var data []byte
	switch kind {
	case "folder":
		packFolder(t, dir, ms)
		return dir
	case "zip":
		data = packZip(t, zip.Deflate, ms)
	case "tar":
		data = packTar(t, ms)
	case "tar.gz":
		data = gzipped(t, packTar(t, ms))
	}
	name := filepath.Join(dir, "animals."+kind)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func packFolder(t testing.TB, dir string, ms []member) {
	t.Helper()
	for _, m := range ms {
		name := filepath.Join(dir, filepath.FromSlash(m.name))
		var err error
		switch {
		case strings.HasSuffix(m.name, "/"):
			err = os.MkdirAll(name, 0o755)
		default:
			if err = os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				break
			}
			if m.target != "" {
				err = os.Symlink(m.target, name)
				break
			}
			err = os.WriteFile(name, m.data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func packZip(t testing.TB, method uint16, ms []member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range ms {
		h := &zip.FileHeader{Name: m.name, Method: method}
		h.SetMode(0o644)
		body := m.data
		if m.target != "" {
			h.SetMode(fs.ModeSymlink | 0o777)
			body = []byte(m.target)
		}
		if strings.HasSuffix(m.name, "/") {
			h.SetMode(fs.ModeDir | 0o755)
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packTar(t testing.TB, ms []member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range ms {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		switch {
		case m.target != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.target
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		err := w.WriteHeader(h)
		if err == nil {
			_, err = w.Write(m.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.Copy(z, bytes.NewReader(data))
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
