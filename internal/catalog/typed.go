package catalog

import (
	"context"
	"errors"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
)

// Resource is a message with a resource name and an owner.
type Resource interface {
	proto.Message
	GetName() string
	GetOwner() string
}

// Typed is the catalog of one collection of resources. Its errors are faults that a client can act on.
type Typed[T Resource] struct {
	catalog    *Catalog
	collection ood.Collection
	empty      func() T
}

// NewTyped makes the catalog of a collection; empty makes an empty resource.
func NewTyped[T Resource](c *Catalog, collection ood.Collection, empty func() T) Typed[T] {
	return Typed[T]{c, collection, empty}
}

// Named returns the resource that a request names in field. InvalidArgument for a name that is none.
func (t Typed[T]) Named(ctx context.Context, field, name string) (T, error) {
	var none T
	id, err := t.collection.ID(name)
	if err != nil {
		return none, fault.Invalid(field, "%w", err)
	}
	doc, err := t.catalog.Get(ctx, string(t.collection), id)
	if err != nil {
		return none, t.fault(err, id)
	}
	return t.parse(doc)
}

// Free returns AlreadyExists when the id is taken.
func (t Typed[T]) Free(ctx context.Context, id string) error {
	_, err := t.catalog.Get(ctx, string(t.collection), id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil:
		return t.fault(ErrExists, id)
	}
	return t.fault(err, id)
}

// Settle creates a resource. Where its name is taken already, same decides whether that is this very one (it was
// created by an attempt that died before it could say so); otherwise it is AlreadyExists.
func (t Typed[T]) Settle(ctx context.Context, r T, same func(old T) bool) error {
	id, err := t.collection.ID(r.GetName())
	if err != nil {
		return err
	}
	doc, err := protojson.Marshal(r)
	if err != nil {
		return err
	}
	_, err = t.catalog.Create(ctx, string(t.collection), id, doc)
	if errors.Is(err, ErrExists) {
		old, getErr := t.Named(ctx, "name", r.GetName())
		if getErr == nil && same(old) {
			return nil
		}
	}
	return t.fault(err, id)
}

// Change replaces a resource by what change makes of it, again when somebody else was faster.
func (t Typed[T]) Change(ctx context.Context, name string, change func(T) error) error {
	id, err := t.collection.ID(name)
	if err != nil {
		return err
	}
	for {
		doc, err := t.catalog.Get(ctx, string(t.collection), id)
		if err != nil {
			return t.fault(err, id)
		}
		r, err := t.parse(doc)
		if err != nil {
			return err
		}
		if err := change(r); err != nil {
			return err
		}
		out, err := protojson.Marshal(r)
		if err != nil {
			return err
		}
		if _, err = t.catalog.Put(ctx, string(t.collection), id, out, doc.Revision); !errors.Is(err, ErrConflict) {
			return t.fault(err, id)
		}
	}
}

// Page returns a page of resources by id.
func (t Typed[T]) Page(ctx context.Context, size int32, token string) ([]T, string, error) {
	if size < 0 || size > maxPage {
		return nil, "", fault.Invalid("page_size", "%d; want 1 to %d, or 0 for %d", size, maxPage, defaultPage)
	}
	docs, next, err := t.catalog.List(ctx, string(t.collection), int(size), token)
	if err != nil {
		if errors.Is(err, ErrInvalidPage) {
			return nil, "", fault.Invalid("page_token", "%w", err)
		}
		return nil, "", err
	}
	list := make([]T, len(docs))
	for i, doc := range docs {
		if list[i], err = t.parse(doc); err != nil {
			return nil, "", err
		}
	}
	return list, next, nil
}

// Remove deletes the resource that a request names in field, for its owner and for admins: PermissionDenied for others.
func (t Typed[T]) Remove(ctx context.Context, field, name string) error {
	id, err := t.collection.ID(name)
	if err != nil {
		return fault.Invalid(field, "%w", err)
	}
	for {
		doc, err := t.catalog.Get(ctx, string(t.collection), id)
		if err != nil {
			return t.fault(err, id)
		}
		if _, known := auth.From(ctx); known {
			r, err := t.parse(doc)
			if err != nil {
				return err
			}
			if err := auth.Steers(ctx, r.GetOwner()); err != nil {
				return err
			}
		}
		if err = t.catalog.Delete(ctx, string(t.collection), id, doc.Revision); !errors.Is(err, ErrConflict) {
			return t.fault(err, id)
		}
	}
}

func (t Typed[T]) parse(doc Document) (T, error) {
	r := t.empty()
	// A newer version may have written fields that this one does not know.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(doc.JSON, r); err != nil {
		var none T
		return none, fault.New(fault.Internal, "document of %s: %w", t.collection.Name(doc.ID), err)
	}
	return r, nil
}

func (t Typed[T]) fault(err error, id string) error {
	name := t.collection.Name(id)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return fault.New(fault.NotFound, "%s: %w", name, ErrNotFound)
	case errors.Is(err, ErrExists):
		return fault.New(fault.AlreadyExists, "%s: %w; choose another id, or delete it first", name, ErrExists)
	}
	return err
}
