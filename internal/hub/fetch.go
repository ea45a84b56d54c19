package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// partSuffix marks a file that is not whole.
const partSuffix = ".part"

// Fetch downloads a file to a path, where it appears when it is whole and its checksum is right. What an earlier
// attempt left beside it is gone on from. progress is told the bytes that are there, which may fall.
func (c *Client) Fetch(ctx context.Context, repo, commit string, f File, to string, progress func(done int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if f.matches(to) == nil {
		progress(f.Bytes)
		return nil
	}
	part := to + partSuffix
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	lies := 0
	err = c.retry(ctx, f.Path, func(ctx context.Context) (bool, error) {
		further, err := c.piece(ctx, repo, commit, f, file, progress)
		if err != nil {
			return further, err
		}
		if err := f.matches(part); err != nil {
			if truncated := file.Truncate(0); truncated != nil {
				return false, final(truncated)
			}
			progress(0)
			if lies++; lies > 1 {
				return false, final(fmt.Errorf("%s of %s: %w; it came so twice, from the beginning", f.Path, repo, err))
			}
			return false, err
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(part, to)
}

// piece downloads what is missing at the end of file.
func (c *Client) piece(ctx context.Context, repo, commit string, f File, file *os.File, progress func(int64)) (further bool, err error) {
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, final(err)
	}
	if f.Bytes >= 0 && have >= f.Bytes {
		return true, nil // the checksum tells
	}
	header := http.Header{}
	if have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := c.send(ctx, http.MethodGet, c.resolve(repo, commit, f.Path), header)
	if err != nil {
		return false, err
	}
	defer r.Body.Close()
	restart := func() error {
		have = 0
		_, err := file.Seek(0, io.SeekStart)
		return errors.Join(err, file.Truncate(0))
	}
	var from int64
	switch {
	case r.StatusCode == http.StatusOK: // from the beginning, asked or not
		err = restart()
	case r.StatusCode == http.StatusPartialContent:
		if n, _ := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-", &from); n != 1 || from != have {
			err = errors.Join(restart(), fmt.Errorf("asked for bytes from %d, got %q", have, r.Header.Get("Content-Range")))
			return false, err
		}
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return false, errors.Join(restart(), fmt.Errorf("the server has no bytes from %d on", have))
	default:
		return false, c.refusal(r, fmt.Sprintf("%s of %s", f.Path, repo))
	}
	if err != nil {
		return false, final(err)
	}
	progress(have)
	n, err := c.copy(cancel, file, r.Body, have, f.Bytes, progress)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return n > 0, fmt.Errorf("after %d bytes: %w", have+n, err)
	}
	if f.Bytes >= 0 && have+n < f.Bytes {
		return n > 0, fmt.Errorf("the connection ended after %d of %d bytes", have+n, f.Bytes)
	}
	return true, nil
}

// copy writes the body to the file. It ends when the server sends nothing for too long, or more than it announced.
func (c *Client) copy(cancel context.CancelCauseFunc, file *os.File, body io.Reader, have, size int64, progress func(int64)) (n int64, err error) {
	stall := time.AfterFunc(c.cfg.Stall, func() { cancel(fmt.Errorf("the server sent nothing for %s", c.cfg.Stall)) })
	defer stall.Stop()
	buffer := make([]byte, 256<<10)
	for {
		k, err := body.Read(buffer)
		if k > 0 {
			stall.Reset(c.cfg.Stall)
			if size >= 0 && have+n+int64(k) > size {
				return n, final(fmt.Errorf("the server sends more than the %d bytes that it announced", size))
			}
			if _, err := file.Write(buffer[:k]); err != nil {
				return n, final(err)
			}
			n += int64(k)
			progress(have + n)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// matches compares a file with size and checksum.
func (f File) matches(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	if f.Bytes >= 0 && stat.Size() != f.Bytes {
		return fmt.Errorf("it has %d bytes, %d were announced", stat.Size(), f.Bytes)
	}
	var h hash.Hash = sha256.New()
	want := f.SHA256
	if want == "" {
		h, want = sha1.New(), f.Git
		fmt.Fprintf(h, "blob %d\x00", stat.Size())
	}
	if _, err := io.Copy(h, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("its checksum is %s, %s was announced", got, want)
	}
	return nil
}
