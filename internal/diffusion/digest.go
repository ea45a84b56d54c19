package diffusion

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// digests are the SHA-256 of a model, and of each of its parts, in hexadecimal.
type digests struct {
	whole string
	parts map[string]string // by folder
}

// Digest returns what the digest of the model in dir would be when it is loaded;
// see Pipeline.Digest.
func Digest(dir string) (string, error) {
	d, err := digest(dir)
	return d.whole, err
}

// digest hashes the files that a pipeline is made of: for each, in the order
// of their names, a line "<SHA-256> <name>\n"; the digest is the SHA-256 of
// these lines, as `sha256sum` would print it with single spaces. That of a part
// is of the lines of its folder.
func digest(dir string) (d digests, err error) {
	names, err := filesOf(dir, optionalFiles)
	if err != nil {
		return d, fmt.Errorf("digest of model: %w", err)
	}
	all, parts := sha256.New(), map[string]hash.Hash{}
	for _, name := range names {
		sum, err := hashFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return d, fmt.Errorf("digest of model: %w", err)
		}
		fmt.Fprintf(all, "%s %s\n", sum, name)
		if part, _, ok := strings.Cut(name, "/"); ok {
			if parts[part] == nil {
				parts[part] = sha256.New()
			}
			fmt.Fprintf(parts[part], "%s %s\n", sum, name)
		}
	}
	d = digests{whole: hex.EncodeToString(all.Sum(nil)), parts: map[string]string{}}
	for part, h := range parts {
		d.parts[part] = hex.EncodeToString(h.Sum(nil))
	}
	return d, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
