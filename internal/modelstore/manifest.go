// Package modelstore keeps diffusion models in a folder, one name each: added from a folder or pulled from a hub,
// whole or not at all, with a manifest of checksums.
//
//	DIR/NAME                    link to the version that serves, or a folder that was put there by hand
//	DIR/.store/versions/        whole models
//	DIR/.store/partial/         downloads that are not whole
//	DIR/.store/NAME.lock        held by who changes the name
package modelstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// manifestFile lies in the folder of each model of the store.
const manifestFile = "dreamood.json"

// Manifest says what a model consists of and where it is from.
type Manifest struct {
	Version int       `json:"version"` // 1
	Digest  string    `json:"digest"`  // diffusion.Pipeline.Digest
	Source  Source    `json:"source"`
	Added   time.Time `json:"added"`
	Files   []File    `json:"files"` // by path
}

// Source is where a model is from: a folder, or a commit of a repository.
type Source struct {
	Folder   string `json:"folder,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Repo     string `json:"repo,omitempty"`
	Revision string `json:"revision,omitempty"` // as it was asked for
	Commit   string `json:"commit,omitempty"`
}

// String names the source in a word.
func (s Source) String() string {
	if s.Repo != "" {
		return fmt.Sprintf("hub:%s@%s", s.Repo, s.Commit)
	}
	return "folder:" + s.Folder
}

// File is a file of a model.
type File struct {
	Path   string `json:"path"` // slash-separated, relative to the model's folder
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

const maxManifest = 4 << 20 // bytes

// ReadManifest reads that of the model in dir. Without one the error is fs.ErrNotExist.
func ReadManifest(dir string) (Manifest, error) {
	var m Manifest
	path := filepath.Join(dir, manifestFile)
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return m, err
	}
	if len(data) > maxManifest {
		return m, fmt.Errorf("%s: larger than %d bytes", path, maxManifest)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if m.Version != 1 {
		return m, fmt.Errorf("%s: version %d, this dreamood reads 1", path, m.Version)
	}
	for _, file := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(file.Path)) || file.Bytes < 0 || len(file.SHA256) != 64 {
			return m, fmt.Errorf("%s: file %q of %d bytes, sha256 %q", path, file.Path, file.Bytes, file.SHA256)
		}
	}
	return m, nil
}

func (m Manifest) write(dir string) error {
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, manifestFile))
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
