package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// CheckExternal refuses a model whose external data would be read from outside
// dir, from a file that is not there, or from beyond a file's end.
func CheckExternal(info *onnxpb.Info, dir string) error {
	for _, ext := range info.External {
		if _, _, _, err := externalRange(ext, dir); err != nil {
			return err
		}
	}
	return nil
}

// CheckLocation refuses a location of external data that is no plain path below
// the model's folder.
func CheckLocation(ext onnxpb.External) error {
	if !filepath.IsLocal(filepath.FromSlash(ext.Location)) {
		return fmt.Errorf("external data of tensor %q: location %q leaves the model's folder", ext.Tensor, ext.Location)
	}
	if strings.Contains(ext.Location, memoryMark) || strings.ContainsFunc(ext.Location, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) }) {
		return fmt.Errorf("external data of tensor %q: location %q is no plain path of a file", ext.Tensor, ext.Location)
	}
	return nil
}

// LoadExternal reads the external data of one stored tensor from dir into the
// tensor. It does nothing where the data is in the model.
func LoadExternal(t *onnxpb.TensorProto, dir string) error {
	if t.DataLocation != onnxpb.TensorProto_EXTERNAL {
		return nil
	}
	ext := onnxpb.External{Tensor: t.Name}
	if n, err := onnxpb.Elements(t.Dims); err != nil {
		return fmt.Errorf("external data of tensor %q: %w", t.Name, err)
	} else if size := DType(t.DataType).Size(); size > 0 {
		ext.DType, ext.Bytes = onnxpb.TensorProto_DataType(t.DataType), n*int64(size)
	}
	for _, entry := range t.ExternalData {
		switch entry.Key {
		case "location":
			ext.Location = entry.Value
		case "offset":
			ext.Offset = entry.Value
		case "length":
			ext.Length = entry.Value
		}
	}
	path, offset, length, err := externalRange(ext, dir)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("external data of tensor %q: %w", t.Name, err)
	}
	defer f.Close()
	raw := make([]byte, length)
	if _, err := f.ReadAt(raw, offset); err != nil {
		return fmt.Errorf("external data of tensor %q: read %s: %w", t.Name, path, err)
	}
	t.RawData, t.ExternalData, t.DataLocation = raw, nil, onnxpb.TensorProto_DEFAULT
	return nil
}

// externalRange returns the file and the bytes of a tensor's external data.
// Symbolic links are followed, but not out of the folder.
func externalRange(ext onnxpb.External, dir string) (path string, offset, length int64, err error) {
	fail := func(format string, args ...any) (string, int64, int64, error) {
		return "", 0, 0, fmt.Errorf("external data of tensor %q: %w", ext.Tensor, fmt.Errorf(format, args...))
	}
	if err := CheckLocation(ext); err != nil {
		return "", 0, 0, err
	}
	path, err = filepath.EvalSymlinks(filepath.Join(dir, filepath.FromSlash(ext.Location)))
	if err != nil {
		return fail("%w", err)
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fail("%w", err)
	}
	if rel, err := filepath.Rel(root, path); err != nil || !filepath.IsLocal(rel) {
		return fail("location %q links to %s, out of the model's folder: put the file itself there", ext.Location, path)
	}
	stat, err := os.Stat(path)
	if err != nil {
		return fail("%w", err)
	}
	if !stat.Mode().IsRegular() {
		return fail("%s is not a regular file", path)
	}
	if ext.Offset != "" {
		if offset, err = strconv.ParseInt(ext.Offset, 10, 64); err != nil || offset < 0 {
			return fail("offset %q is not a number of bytes", ext.Offset)
		}
	}
	length = stat.Size() - offset
	if ext.DType != 0 {
		length = ext.Bytes
	}
	if ext.Length != "" {
		if length, err = strconv.ParseInt(ext.Length, 10, 64); err != nil || length < 0 {
			return fail("length %q is not a number of bytes", ext.Length)
		}
	}
	if offset > stat.Size() || length > stat.Size()-offset || length < 0 {
		return fail("bytes %d+%d lie beyond the end of %s (%d bytes)", offset, length, path, stat.Size())
	}
	if ext.DType != 0 && length != ext.Bytes {
		return fail("%d bytes are stored, its type and shape need %d", length, ext.Bytes)
	}
	return path, offset, length, nil
}

// memoryMark stands in the location of data that lies at an address of the
// process, which ONNX Runtime would read.
const memoryMark = "_ORT_MEM_ADDR_"
