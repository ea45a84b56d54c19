package diffusion

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// requiredFiles of a model, relative to its folder.
var requiredFiles = []string{
	"model_index.json",
	"scheduler/scheduler_config.json",
	"text_encoder/config.json",
	"text_encoder/model.onnx",
	"tokenizer/merges.txt",
	"tokenizer/vocab.json",
	"unet/config.json",
	"unet/model.onnx",
	"vae_decoder/config.json",
	"vae_decoder/model.onnx",
}

// optionalFiles count for the digest where they are there.
var optionalFiles = []string{"tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json"}

// digests are the SHA-256 of a model, and of each of its parts, in hexadecimal.
type digests struct {
	whole string
	parts map[string]string // by folder
}

// digest hashes the files that a pipeline is made of: for each, in the order
// of their names, a line "<SHA-256> <name>\n"; the digest is the SHA-256 of
// these lines, as `sha256sum` would print it with single spaces. That of a part
// is of the lines of its folder.
func digest(dir string) (d digests, err error) {
	names := slices.Clone(requiredFiles)
	for _, name := range optionalFiles {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			names = append(names, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return d, fmt.Errorf("digest of model: %w", err)
		}
	}
	for _, part := range []string{"text_encoder", "unet", "vae_decoder"} {
		external, err := externalFiles(dir, part)
		if err != nil {
			return d, fmt.Errorf("digest of model: %w", err)
		}
		names = append(names, external...)
	}
	slices.Sort(names)
	all, parts := sha256.New(), map[string]hash.Hash{}
	for _, name := range slices.Compact(names) {
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

// externalFiles names the files of a part's external data, relative to dir.
func externalFiles(dir, part string) ([]string, error) {
	path := filepath.Join(dir, part, "model.onnx")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := onnxpb.Inspect(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := onnx.CheckExternal(info, filepath.Join(dir, part)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var names []string
	for _, external := range info.External {
		names = append(names, filepath.ToSlash(filepath.Join(part, filepath.FromSlash(external.Location))))
	}
	return names, nil
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
