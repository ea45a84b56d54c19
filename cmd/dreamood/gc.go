package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
)

// GCCmd collects garbage.
type GCCmd struct {
	DryRun bool          `help:"Only count."`
	Grace  time.Duration `field:"grace" placeholder:"TIME" help:"How long a blob without a name is kept, first where it is, then in the trash; at least 1m (default: the server's, 24h). It must be longer than the longest evaluation of a detector."`
}

// Help teaches the command.
func (GCCmd) Help() string {
	return `The mesh does so by itself every 6 hours. A blob that no document and no run names, and that was not stored within
the grace, goes to the trash; a later collection removes it from there, unless somebody has wanted it meanwhile. So space
comes back after twice the grace. Where clients are authenticated, this is for admins.

    dreamood gc --dry-run
    dreamood gc --grace 1h`
}

// Run asks the server, and prints what became of everything.
func (c *GCCmd) Run(ctx context.Context, s *Session) error {
	store, err := client(s, storev1.NewStoreServiceClient)
	if err != nil {
		return err
	}
	q := &storev1.CollectGarbageRequest{DryRun: c.DryRun}
	if c.Grace != 0 {
		q.Grace = durationpb.New(c.Grace)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // large stores take their time
	defer cancel()
	r, err := store.CollectGarbage(ctx, q)
	if err != nil {
		return err
	}
	if s.json() {
		return s.object(r)
	}
	done := "removed"
	if c.DryRun {
		done = "to remove"
	}
	var t table
	t.row("WHAT", "FILES", "SIZE")
	for _, line := range []struct {
		what string
		n    *storev1.Amount
	}{
		{"live", r.Live}, {"without a name, young", r.Young}, {"to the trash", r.Trashed}, {"back from the trash", r.Recalled},
		{"blobs " + done, r.Removed}, {"leftovers " + done, r.Partial}, {"check-points " + done, r.Checkpoints}, {"strange, left alone", r.Strange},
	} {
		t.row(line.what, line.n.GetCount(), size(uint64(line.n.GetBytes())))
	}
	t.print(s.Out)
	for _, problem := range r.Problems {
		s.complain("%s", problem)
	}
	if len(r.Problems) > 0 {
		return &exitError{exitFailed, nil}
	}
	return nil
}
