package artifact

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
)

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// verifier reads a blob and compares length and digest at the end.
type verifier struct {
	name   string // for errors
	closer io.Closer
	body   io.Reader
	ref    Ref
	size   int64 // at the time of opening
	read   int64
	digest hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.body.Read(p)
	v.digest.Write(p[:n])
	v.read += int64(n)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.read != v.size {
		return n, v.corrupt(fmt.Sprintf("read %d bytes of %d", v.read, v.size))
	}
	if got := refOfSum(v.digest.Sum(nil)); got != v.ref {
		return n, v.corrupt("its content is " + got.String())
	}
	return n, io.EOF
}

func (v *verifier) Close() error { return v.closer.Close() }

func (v *verifier) corrupt(what string) error {
	return fmt.Errorf("%s: %w: %s; delete it and make it again", v.name, ErrCorrupt, what)
}
