package modelstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// reserve is what is left free on the disk, in bytes.
const reserve = 64 << 20

// room refuses what does not fit on the disk.
func (s *Store) room(bytes int64) error {
	if err := os.MkdirAll(s.inner(), 0o755); err != nil {
		return err
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &stat); err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if free := int64(stat.Bavail) * int64(stat.Bsize); bytes > free-reserve {
		return fmt.Errorf("%d bytes are needed and %d are free in %s: make room, or name a folder on another disk with --models", bytes, max(0, free-reserve), s.dir)
	}
	return nil
}

// lock takes the lock of a name, which the death of its process gives back.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(s.inner(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.inner(name+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !told && s.Waiting != nil {
			s.Waiting(name)
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
