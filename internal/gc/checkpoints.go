package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dreamood/dreamood/internal/artifact"
)

// checkpoint takes the run out of the name of a check-point, of a run or of one of its shards, or of one that was being
// written.
var checkpoint = regexp.MustCompile(`^([0-9a-z]{20})(-[0-9]+)?\.ckpt(\.tmp-.*)?$`)

// checkpoints removes those of chains of runs that have all succeeded or are gone, when they are older than the grace.
func (c *Collector) checkpoints(ctx context.Context, m marks, grace time.Duration, dryRun bool) (removed artifact.Amount, err error) {
	if c.cfg.Checkpoints == "" {
		return removed, nil
	}
	entries, err := os.ReadDir(c.cfg.Checkpoints)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return removed, fmt.Errorf("sweep check-points: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if ctx.Err() != nil {
			return removed, ctx.Err()
		}
		name := checkpoint.FindStringSubmatch(entry.Name())
		if name == nil || m.runs[name[1]] {
			continue
		}
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < grace || !info.Mode().IsRegular() {
			continue // gone meanwhile, or young
		}
		if !dryRun {
			if err := os.Remove(filepath.Join(c.cfg.Checkpoints, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("sweep check-points: %w", err))
				continue
			}
		}
		removed.Blobs++
		removed.Bytes += info.Size()
	}
	return removed, errors.Join(errs...)
}
