package catalog

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
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
