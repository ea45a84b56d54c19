// Package artifact keeps pictures, tensors and models as blobs that are named by their content.
//
// A blob never changes and its name proves its content, so writing one twice is harmless, several writers need no
// lock, and a message or a manifest carries the name alone.
package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

var (
	// ErrNotFound means that the store has no blob of that name.
	ErrNotFound = errors.New("no such blob")
	// ErrCorrupt means that what lies under a name is not what the name promises.
	ErrCorrupt = errors.New("blob is corrupt")
	// ErrTooLarge means that a blob is larger than its reader wants.
	ErrTooLarge = errors.New("blob is too large")
)

// Store keeps blobs. Every method is safe for concurrent use, also by several processes on one store.
type Store interface {
	// Put stores what r yields and returns its name. When it returns, the blob survives a power failure. Nothing of it
	// is visible before that.
	Put(ctx context.Context, r io.Reader) (Ref, error)
	// Open reads a blob. The last Read verifies the digest and returns ErrCorrupt in place of io.EOF when the content
	// is not the blob's; so trust nothing before io.EOF. ErrNotFound when there is none.
	Open(ctx context.Context, ref Ref) (io.ReadCloser, error)
	// Stat returns the size in bytes. ErrNotFound when there is none.
	Stat(ctx context.Context, ref Ref) (int64, error)
}

const scheme = "sha256:"

// Ref names a blob: "sha256:" and 64 lower-case hexadecimal digits.
type Ref string

// Parse checks that text is a Ref.
func Parse(text string) (Ref, error) {
	digits, ok := strings.CutPrefix(text, scheme)
	if !ok || len(digits) != 2*sha256.Size || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("artifact reference %q: want sha256: and 64 lower-case hexadecimal digits", text)
	}
	return Ref(text), nil
}

// RefOf is the name of data.
func RefOf(data []byte) Ref {
	sum := sha256.Sum256(data)
	return refOfSum(sum[:])
}

// Hex is the digest without its scheme.
func (r Ref) Hex() string { return strings.TrimPrefix(string(r), scheme) }

func (r Ref) String() string { return string(r) }

func refOfSum(sum []byte) Ref { return Ref(scheme + hex.EncodeToString(sum)) }

// PutBytes stores data.
func PutBytes(ctx context.Context, s Store, data []byte) (Ref, error) {
	return s.Put(ctx, bytes.NewReader(data))
}

// ReadAll reads and verifies a whole blob of at most limit bytes; ErrTooLarge when it is larger.
func ReadAll(ctx context.Context, s Store, ref Ref, limit int64) ([]byte, error) {
	size, err := s.Stat(ctx, ref)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read: %w", ref, size, limit, ErrTooLarge)
	}
	r, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // room for ReadFrom, so that it never grows
	if _, err := data.ReadFrom(r); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}
