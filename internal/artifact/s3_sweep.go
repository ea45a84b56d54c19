package artifact

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dreamood/dreamood/internal/bucket"
)

// clockObject is written to learn the server's time.
const clockObject = "blobs/clock"

// Sweep removes blobs that nothing names; see Files.Sweep, whose promises it keeps: a bucket has no rename, so a blob is
// copied to the trash before it is removed, and is looked at again between the two.
func (s *Objects) Sweep(ctx context.Context, sweep Sweep) (Swept, error) {
	now, err := s.clock(ctx)
	if err != nil {
		return Swept{}, fmt.Errorf("sweep: %w", err)
	}
	w := objectSweeper{Sweep: sweep, store: s, now: now}
	n, size, err := s.bucket.Abandoned(ctx, "blobs/", now.Add(-staleAfter), sweep.DryRun)
	w.swept.Partial = Amount{Blobs: n, Bytes: size}
	w.failed(err)
	w.each(ctx, trashPrefix, w.trash)
	w.each(ctx, blobPrefix, w.blob)
	return w.swept, errors.Join(append(w.errs, ctx.Err())...)
}

func (s *Objects) clock(ctx context.Context) (time.Time, error) {
	if err := s.bucket.Put(ctx, clockObject, strings.NewReader("tick"), 4); err != nil {
		return time.Time{}, err
	}
	info, err := s.bucket.Stat(ctx, clockObject)
	return info.Modified.Add(time.Second), err // it is cut to seconds
}

type objectSweeper struct {
	Sweep
	store *Objects
	now   time.Time // by the server's clock
	swept Swept
	errs  []error
}

func (w *objectSweeper) failed(err error) {
	if err != nil && !errors.Is(err, bucket.ErrNotFound) && len(w.errs) < maxErrors {
		w.errs = append(w.errs, fmt.Errorf("sweep: %w", err))
	}
}

func (w *objectSweeper) young(info bucket.Info) bool { return w.now.Sub(info.Modified) < w.Grace }

func (w *objectSweeper) each(ctx context.Context, prefix string, do func(context.Context, Ref, bucket.Info)) {
	for info, err := range w.store.bucket.List(ctx, prefix) {
		if err != nil {
			w.failed(err)
			return
		}
		if ref, ok := w.store.refOf(info.Name); ok {
			do(ctx, ref, info)
			continue
		}
		w.swept.Strange.plus(info.Size)
	}
}

// trash brings back what is named now, and removes what was trashed long ago. Where the blob is in its place too, the
// copy here is only in the way.
func (w *objectSweeper) trash(ctx context.Context, ref Ref, info bucket.Info) {
	remove := func() bool {
		if w.DryRun {
			return true
		}
		err := w.store.bucket.Remove(ctx, info.Name)
		w.failed(err)
		return err == nil
	}
	_, err := w.store.bucket.Stat(ctx, w.store.name(ref))
	inPlace := err == nil
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		w.failed(err)
		return
	}
	switch {
	case w.Live(ref) && !inPlace:
		if !w.DryRun {
			if err := w.store.recall(ctx, ref); err != nil {
				w.failed(err)
				return
			}
		}
		w.swept.Recalled.plus(info.Size)
	case w.young(info):
		if !inPlace {
			w.swept.Young.plus(info.Size)
		}
	case remove() && !inPlace:
		w.swept.Removed.plus(info.Size)
	}
}

func (w *objectSweeper) blob(ctx context.Context, ref Ref, info bucket.Info) {
	switch {
	case w.Live(ref):
		w.swept.Live.plus(info.Size)
	case w.young(info):
		w.swept.Young.plus(info.Size)
	case w.DryRun:
		w.swept.Trashed.plus(info.Size)
	default:
		w.discard(ctx, ref, info)
	}
}

// discard moves a blob to the trash, unless somebody has put it again meanwhile. One who does so between the last look
// and the removal finds it in the trash, from where Open brings it back.
func (w *objectSweeper) discard(ctx context.Context, ref Ref, info bucket.Info) {
	if err := w.store.bucket.Copy(ctx, info.Name, trashPrefix+ref.Hex()); err != nil {
		w.failed(err)
		return
	}
	again, err := w.store.bucket.Stat(ctx, info.Name)
	if err != nil {
		w.failed(err)
		return
	}
	if !again.Modified.Truncate(time.Second).Equal(info.Modified.Truncate(time.Second)) {
		w.swept.Young.plus(info.Size)
		return
	}
	if err := w.store.bucket.Remove(ctx, info.Name); err != nil {
		w.failed(err)
		return
	}
	w.swept.Trashed.plus(info.Size)
}
