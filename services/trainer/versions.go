package trainer

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// versions are the detectors of the catalog. `detectors/{id}` is the newest version, with the aliases; every version has
// a document of its own beside it, in the collection detectors-v{version}. A version is written before the newest
// points to it, so a crash between the two is mended when the run's finish is done again.
type versions struct {
	catalog.Typed[*trainerv1.Detector]
	all *catalog.Catalog
}

func newVersions(c *catalog.Catalog) versions {
	return versions{catalog.NewTyped(c, ood.Detectors, func() *trainerv1.Detector { return &trainerv1.Detector{} }), c}
}

// aliasPattern keeps aliases from looking like versions.
var aliasPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// numberOf is a detector's version; those from before there were versions are the first.
func numberOf(d *trainerv1.Detector) int32 { return max(1, d.GetVersion()) }

// versioned is the name that means this version for good.
func versioned(d *trainerv1.Detector) string { return fmt.Sprintf("%s@%d", d.GetName(), numberOf(d)) }

// split takes a name apart into that of the detector and what stands behind the @.
func split(name string) (detector, ref string) {
	detector, ref, _ = strings.Cut(name, "@")
	return detector, ref
}

// kindOf is the collection of a version.
func kindOf(version int32) string { return fmt.Sprintf("%s-v%d", ood.Detectors, version) }

// Named returns the version that a request names in field.
func (v versions) Named(ctx context.Context, field, name string) (*trainerv1.Detector, error) {
	detector, ref := split(name)
	if strings.HasSuffix(name, "@") || strings.Count(name, "@") > 1 {
		return nil, fault.Invalid(field, "%q is not of the form detectors/ID, detectors/ID@VERSION or detectors/ID@ALIAS", name)
	}
	newest, err := v.Typed.Named(ctx, field, detector)
	if err != nil || ref == "" {
		return newest, err
	}
	number, aliased := newest.Aliases[ref]
	if !aliased {
		n, err := strconv.ParseInt(ref, 10, 32)
		if err != nil {
			return nil, fault.New(fault.NotFound, "%s: the detector has no alias %q; it has %s", name, ref, aliasesOf(newest))
		}
		number = int32(n)
	}
	d, err := v.version(ctx, newest, number)
	if err == nil {
		d.Aliases = newest.Aliases
	}
	return d, err
}

func aliasesOf(d *trainerv1.Detector) string {
	var list []string
	for alias, version := range d.Aliases {
		list = append(list, fmt.Sprintf("%s (version %d)", alias, version))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// version reads one version of a detector.
func (v versions) version(ctx context.Context, newest *trainerv1.Detector, number int32) (*trainerv1.Detector, error) {
	if number == numberOf(newest) {
		return newest, nil
	}
	id, err := ood.Detectors.ID(newest.Name)
	if err != nil {
		return nil, err
	}
	doc, err := v.all.Get(ctx, kindOf(number), id)
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalidID) {
		return nil, fault.New(fault.NotFound, "%s@%d: there is no such version; the newest is %d", newest.Name, number, numberOf(newest))
	}
	if err != nil {
		return nil, err
	}
	d := &trainerv1.Detector{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(doc.JSON, d); err != nil {
		return nil, fault.New(fault.Internal, "document of %s@%d: %w", newest.Name, number, err)
	}
	return d, nil
}

// List returns all versions, the newest first.
func (v versions) List(ctx context.Context, field, name string) ([]*trainerv1.Detector, error) {
	newest, err := v.Typed.Named(ctx, field, name)
	if err != nil {
		return nil, err
	}
	var out []*trainerv1.Detector
	for n := numberOf(newest); n > 0; n-- {
		d, err := v.version(ctx, newest, n)
		if fault.ReasonOf(err) == fault.NotFound {
			continue // deleted
		}
		if err != nil {
			return nil, err
		}
		d.Aliases = newest.Aliases
		out = append(out, d)
	}
	return out, nil
}

// Add enters what a run made: as the next version where next is set, else as the first version of a detector that must
// not exist yet. Doing it twice is harmless.
func (v versions) Add(ctx context.Context, d *trainerv1.Detector, next bool) error {
	id, err := ood.Detectors.ID(d.Name)
	if err != nil {
		return err
	}
	list, err := v.List(ctx, "name", d.Name)
	if err != nil && fault.ReasonOf(err) != fault.NotFound {
		return err
	}
	var newest *trainerv1.Detector
	for i, old := range list {
		if old.Run == d.Run { // done already
			return v.point(ctx, old)
		}
		if i == 0 {
			newest = old
		}
	}
	switch {
	case newest == nil:
	case !next:
		return fault.New(fault.AlreadyExists, "%s: already exists; choose another id, or make its next version", d.Name)
	case newest.Version == 0: // from before there were versions
		first := proto.CloneOf(newest)
		first.Version = 1
		if err := v.put(ctx, id, first); err != nil && !errors.Is(err, catalog.ErrExists) {
			return err
		}
	}
	for d.Version = numberOf(newest) + 1; ; d.Version++ {
		if newest == nil {
			d.Version = 1
		}
		err := v.put(ctx, id, d)
		if err == nil {
			break
		}
		if !errors.Is(err, catalog.ErrExists) {
			return err
		}
		// Another run's, not pointed to yet, or this run's own from an earlier attempt.
		there, err := v.version(ctx, &trainerv1.Detector{Name: d.Name, Version: d.Version + 1}, d.Version)
		if err != nil {
			return err
		}
		if there.Run == d.Run {
			break
		}
		newest = there
	}
	return v.point(ctx, d)
}

// put writes the document of a version that must not exist yet.
func (v versions) put(ctx context.Context, id string, d *trainerv1.Detector) error {
	doc, err := protojson.Marshal(d)
	if err != nil {
		return err
	}
	_, err = v.all.Create(ctx, kindOf(d.Version), id, doc)
	return err
}

// point makes a version the newest one, unless a newer one is that already.
func (v versions) point(ctx context.Context, d *trainerv1.Detector) error {
	for {
		err := v.Typed.Settle(ctx, d, func(*trainerv1.Detector) bool { return false })
		if fault.ReasonOf(err) != fault.AlreadyExists {
			return err
		}
		err = v.Typed.Change(ctx, d.Name, func(newest *trainerv1.Detector) error {
			if numberOf(newest) >= d.Version {
				return nil
			}
			aliases := newest.Aliases
			proto.Reset(newest)
			proto.Merge(newest, d)
			newest.Aliases = aliases
			return nil
		})
		if fault.ReasonOf(err) != fault.NotFound { // deleted meanwhile
			return err
		}
	}
}

// Change replaces one version, and the newest where that is it.
func (v versions) Change(ctx context.Context, d *trainerv1.Detector, change func(*trainerv1.Detector) error) error {
	id, err := ood.Detectors.ID(d.Name)
	if err != nil {
		return err
	}
	number := numberOf(d)
	for {
		doc, err := v.all.Get(ctx, kindOf(number), id)
		if errors.Is(err, catalog.ErrNotFound) {
			break // from before there were versions
		}
		if err != nil {
			return err
		}
		one := &trainerv1.Detector{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(doc.JSON, one); err != nil {
			return fmt.Errorf("document of %s@%d: %w", d.Name, number, err)
		}
		if err := change(one); err != nil {
			return err
		}
		text, err := protojson.Marshal(one)
		if err != nil {
			return err
		}
		if _, err = v.all.Put(ctx, kindOf(number), id, text, doc.Revision); err == nil {
			break
		} else if !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
	return v.Typed.Change(ctx, d.Name, func(newest *trainerv1.Detector) error {
		if numberOf(newest) != number {
			return nil
		}
		return change(newest)
	})
}

// Promote points an alias to a version; 0 takes it away.
func (v versions) Promote(ctx context.Context, name, alias string, number int32) error {
	return v.Typed.Change(ctx, name, func(newest *trainerv1.Detector) error {
		if number == 0 {
			if _, ok := newest.Aliases[alias]; !ok {
				return fault.New(fault.NotFound, "%s@%s: the detector has no such alias; it has %s", name, alias, aliasesOf(newest))
			}
			delete(newest.Aliases, alias)
			return nil
		}
		if newest.Aliases == nil {
			newest.Aliases = map[string]int32{}
		}
		newest.Aliases[alias] = number
		return nil
	})
}

// Remove deletes a detector with all its versions, or one version that nothing points to.
func (v versions) Remove(ctx context.Context, field, name string) error {
	detector, ref := split(name)
	newest, err := v.Typed.Named(ctx, field, detector)
	if err != nil {
		return err
	}
	id, err := ood.Detectors.ID(detector)
	if err != nil {
		return err
	}
	if ref == "" {
		if err := v.Typed.Remove(ctx, field, detector); err != nil {
			return err
		}
		for n := int32(1); n <= numberOf(newest); n++ {
			if err := v.all.Delete(ctx, kindOf(n), id, 0); err != nil && !errors.Is(err, catalog.ErrNotFound) {
				return err
			}
		}
		return nil
	}
	if err := auth.Steers(ctx, newest.Owner); err != nil {
		return err
	}
	number, err := strconv.ParseInt(ref, 10, 32)
	if err != nil {
		return fault.Invalid(field, "%q: a version is deleted by its number; an alias is taken away by promoting another version, or with remove", name)
	}
	if int32(number) == numberOf(newest) {
		return fault.New(fault.FailedPrecondition, "%s is the newest version; delete %s with all versions, or make a newer one", name, detector)
	}
	for alias, n := range newest.Aliases {
		if n == int32(number) {
			return fault.New(fault.FailedPrecondition, "%s is what %s@%s points to; promote another version first", name, detector, alias)
		}
	}
	err = v.all.Delete(ctx, kindOf(int32(number)), id, 0)
	if errors.Is(err, catalog.ErrNotFound) {
		return fault.New(fault.NotFound, "%s: there is no such version", name)
	}
	return err
}
