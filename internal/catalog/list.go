package catalog

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultPage = 50
	maxPage     = 1000
)

// List returns documents of one kind, sorted by id, at most pageSize (0 means 50, more than 1000 means 1000), and the
// token of the next page, empty on the last one. Documents that come or go meanwhile may be missed; the others appear
// exactly once.
func (c *Catalog) List(ctx context.Context, kind string, pageSize int, pageToken string) ([]Document, string, error) {
	if !idPattern.MatchString(kind) {
		return nil, "", fmt.Errorf("resource kind %q: %w", kind, ErrInvalidID)
	}
	switch {
	case pageSize < 0:
		return nil, "", fmt.Errorf("page size %d: %w", pageSize, ErrInvalidPage)
	case pageSize == 0:
		pageSize = defaultPage
	}
	pageSize = min(pageSize, maxPage)
	after, err := base64.RawURLEncoding.DecodeString(pageToken)
	if err != nil || pageToken != "" && !idPattern.Match(after) {
		return nil, "", fmt.Errorf("page token %q: %w: use next_page_token of the page before", pageToken, ErrInvalidPage)
	}
	ids, err := c.ids(ctx, kind)
	if err != nil {
		return nil, "", err
	}
	first, found := slices.BinarySearch(ids, string(after))
	if found {
		first++
	}
	docs := make([]Document, 0, min(pageSize, len(ids)-first))
	for i, id := range ids[first:] {
		if len(docs) == pageSize {
			return docs, base64.RawURLEncoding.EncodeToString([]byte(ids[first+i-1])), nil
		}
		doc, err := c.Get(ctx, kind, id)
		if errors.Is(err, ErrNotFound) { // deleted since
			continue
		}
		if err != nil {
			return nil, "", err
		}
		docs = append(docs, doc)
	}
	return docs, "", nil
}

// ids returns the sorted ids of one kind.
func (c *Catalog) ids(ctx context.Context, kind string) ([]string, error) {
	lister, err := c.kv.ListKeysFiltered(ctx, kind+".*")
	if err != nil {
		return nil, fmt.Errorf("list %s in the catalog: %w", kind, err)
	}
	defer lister.Stop()
	var ids []string
	for key := range lister.Keys() {
		ids = append(ids, strings.TrimPrefix(key, kind+"."))
	}
	if err := ctx.Err(); err != nil { // the list may be cut off
		return nil, fmt.Errorf("list %s in the catalog: %w", kind, err)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Revision is a document as it was for some time.
type Revision struct {
	Kind, ID string
	JSON     []byte
	Until    time.Time // when it was replaced or deleted, by the server's clock; zero: it is the document
}

// Revisions hands over every revision that the bucket holds, of all kinds. What is written meanwhile may be missing. An
// error means that not everything was seen.
func (c *Catalog) Revisions(ctx context.Context, yield func(Revision)) error {
	watcher, err := c.kv.WatchAll(ctx, jetstream.IncludeHistory())
	if err != nil {
		return fmt.Errorf("read the history of the catalog: %w", err)
	}
	defer watcher.Stop()
	last := map[string]jetstream.KeyValueEntry{} // by key: not yet handed over
	hand := func(e jetstream.KeyValueEntry, until time.Time) {
		if e != nil && e.Operation() == jetstream.KeyValuePut {
			kind, id, _ := strings.Cut(e.Key(), ".")
			yield(Revision{Kind: kind, ID: id, JSON: e.Value(), Until: until})
		}
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the history of the catalog: %w", ctx.Err())
		case e, ok := <-watcher.Updates():
			if !ok {
				return errors.New("read the history of the catalog: the connection ended")
			}
			if e == nil { // everything has come
				for _, e := range last {
					hand(e, time.Time{})
				}
				return nil
			}
			hand(last[e.Key()], e.Created())
			last[e.Key()] = e
		}
	}
}
