package trainer

import (
	"fmt"
	"sync"
	"testing"

	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// shelf are versions in a catalog of their own, on a real NATS server.
func shelf(t *testing.T) versions {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c, err := catalog.New(t.Context(), b.JetStream(), catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return newVersions(c)
}

func made(run string, threshold float64) *trainerv1.Detector {
	return &trainerv1.Detector{Name: "detectors/d", Run: "runs/" + run, Threshold: threshold, Score: "energy"}
}

func (v versions) want(t *testing.T, name string, version int32, threshold float64) {
	t.Helper()
	d, err := v.Named(t.Context(), "name", name)
	if err != nil || d.Version != version || d.Threshold != threshold {
		t.Errorf("%s is version %d with threshold %g, %v; want %d with %g", name, d.GetVersion(), d.GetThreshold(), err, version, threshold)
	}
}

func refused(t *testing.T, what string, err error, reason fault.Reason) {
	t.Helper()
	if fault.ReasonOf(err) != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}

func TestLifeOfVersions(t *testing.T) {
	v, ctx := shelf(t), t.Context()
	for _, step := range []error{v.Add(ctx, made("r1", 1), false), v.Add(ctx, made("r1", 1), false), v.Add(ctx, made("r2", 2), true), v.Add(ctx, made("r2", 2), true)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	refused(t, "a taken id", v.Add(ctx, made("r3", 3), false), fault.AlreadyExists)
	v.want(t, "detectors/d", 2, 2)
	v.want(t, "detectors/d@1", 1, 1)
	if err := v.Promote(ctx, "detectors/d", "live", 1); err != nil {
		t.Fatal(err)
	}
	v.want(t, "detectors/d@live", 1, 1)
	if err := v.Add(ctx, made("r3", 3), true); err != nil {
		t.Fatal(err)
	}
	v.want(t, "detectors/d", 3, 3)
	v.want(t, "detectors/d@live", 1, 1) // a new version does not move the alias
	// The finish of an old run that is done again changes nothing.
	if err := v.Add(ctx, made("r2", 2), true); err != nil {
		t.Fatal(err)
	}
	v.want(t, "detectors/d", 3, 3)
	if list, err := v.List(ctx, "name", "detectors/d"); err != nil || len(list) != 3 || list[0].Version != 3 || list[2].Aliases["live"] != 1 {
		t.Errorf("listed %v, %v", list, err)
	}

	for name, reason := range map[string]fault.Reason{
		"detectors/d@4": fault.NotFound, "detectors/d@0": fault.NotFound, "detectors/d@none": fault.NotFound, "detectors/e@1": fault.NotFound,
		"detectors/d@": fault.InvalidArgument, "detectors/d@1@2": fault.InvalidArgument, "d@1": fault.InvalidArgument,
	} {
		_, err := v.Named(ctx, "name", name)
		refused(t, name, err, reason)
	}

	// An evaluation of one version changes that one, and the newest where it is that.
	for _, n := range []int32{1, 3} {
		err := v.Change(ctx, &trainerv1.Detector{Name: "detectors/d", Version: n}, func(d *trainerv1.Detector) error { d.Threshold += 10; return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	v.want(t, "detectors/d@1", 1, 11)
	v.want(t, "detectors/d", 3, 13)
	v.want(t, "detectors/d@2", 2, 2)
	v.want(t, "detectors/d@3", 3, 13)

	refused(t, "deleting the newest", v.Remove(ctx, "name", "detectors/d@3"), fault.FailedPrecondition)
	refused(t, "deleting what is live", v.Remove(ctx, "name", "detectors/d@1"), fault.FailedPrecondition)
	refused(t, "deleting an alias", v.Remove(ctx, "name", "detectors/d@live"), fault.InvalidArgument)
	if err := v.Remove(ctx, "name", "detectors/d@2"); err != nil {
		t.Fatal(err)
	}
	refused(t, "deleting it again", v.Remove(ctx, "name", "detectors/d@2"), fault.NotFound)
	if err := v.Promote(ctx, "detectors/d", "live", 0); err != nil {
		t.Fatal(err)
	}
	refused(t, "an alias that is gone", v.Promote(ctx, "detectors/d", "live", 0), fault.NotFound)
	if err := v.Remove(ctx, "name", "detectors/d"); err != nil {
		t.Fatal(err)
	}
	refused(t, "a deleted detector's version", func() error { _, err := v.Named(ctx, "name", "detectors/d@1"); return err }(), fault.NotFound)
	if err := v.Add(ctx, made("r9", 9), true); err != nil {
		t.Fatal(err)
	}
	v.want(t, "detectors/d", 1, 9)
}

// TestDetectorsFromBeforeVersions are the first version.
func TestDetectorsFromBeforeVersions(t *testing.T) {
	v, ctx := shelf(t), t.Context()
	if err := v.Typed.Settle(ctx, made("old", 1), nil); err != nil {
		t.Fatal(err)
	}
	d, err := v.Named(ctx, "name", "detectors/d@1")
	if err != nil || d.Threshold != 1 || versioned(d) != "detectors/d@1" {
		t.Errorf("%v, %v", d, err)
	}
	if err := v.Change(ctx, d, func(d *trainerv1.Detector) error { d.Threshold = 5; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := v.Add(ctx, made("new", 2), true); err != nil {
		t.Fatal(err)
	}
	v.want(t, "detectors/d", 2, 2)
	v.want(t, "detectors/d@1", 1, 5)
}

// TestVersionsMadeAtOnce: every run gets a number of its own, and aliases survive.
func TestVersionsMadeAtOnce(t *testing.T) {
	v, ctx := shelf(t), t.Context()
	if err := v.Add(ctx, made("r0", 0), true); err != nil {
		t.Fatal(err)
	}
	if err := v.Promote(ctx, "detectors/d", "live", 1); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			for range 2 { // a finish may happen twice
				if err := v.Add(ctx, made(fmt.Sprint("r", i+1), float64(i+1)), true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	list, err := v.List(ctx, "name", "detectors/d")
	runs := map[string]bool{}
	for _, d := range list {
		runs[d.Run] = true
	}
	if err != nil || len(list) != 7 || len(runs) != 7 || list[0].Version != 7 || list[0].Aliases["live"] != 1 {
		t.Errorf("%d versions of %d runs, the newest %d with aliases %v, %v", len(list), len(runs), list[0].Version, list[0].Aliases, err)
	}
}
