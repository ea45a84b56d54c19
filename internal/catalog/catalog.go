// Package catalog keeps the documents of named resources (spaces, sets, detectors) where every role sees them: in one
// JetStream key-value bucket.
//
// A document is small JSON that refers to artifacts; its revision makes changes safe against each other.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrExists means that Create found a document of that name.
	ErrExists = errors.New("already exists")
	// ErrConflict means that the document was changed since the revision that the caller holds: read it again.
	ErrConflict = errors.New("was changed meanwhile")
	// ErrNotFound means that there is no document of that name.
	ErrNotFound = errors.New("not found")
	// ErrInvalidID means that a kind or id is not of the form [a-z0-9][a-z0-9_-]{0,62}.
	ErrInvalidID = errors.New("want 1 to 63 of a-z, 0-9, _ and -, the first a letter or digit")
	// ErrInvalidDocument means that a document is not JSON, or larger than the server takes (1 MiB by default).
	ErrInvalidDocument = errors.New("invalid document")
	// ErrInvalidPage means that a page token or size is none.
	ErrInvalidPage = errors.New("invalid page")
)

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Config names the bucket.
type Config struct {
	Bucket   string // default "dreamood-catalog"
	History  int    // revisions kept per document, 1 to 64; default 5
	Replicas int    // copies in a NATS cluster, 1, 3 or 5; default 1
}

// Document is one resource.
type Document struct {
	Kind     string // "spaces", "sets", "detectors"
	ID       string
	JSON     []byte
	Revision uint64    // grows with every change of the document
	Updated  time.Time // when this revision was written, by the server's clock
}

// Catalog is safe for concurrent use, by several processes too.
type Catalog struct {
	kv jetstream.KeyValue
}

// New opens the bucket and makes it where it is missing.
func New(ctx context.Context, js jetstream.JetStream, cfg Config) (*Catalog, error) {
	if cfg.Bucket == "" {
		cfg.Bucket = "dreamood-catalog"
	}
	if cfg.History == 0 {
		cfg.History = 5
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.History < 1 || cfg.History > jetstream.KeyValueMaxHistory {
		return nil, fmt.Errorf("catalog history %d: want 1 to %d", cfg.History, jetstream.KeyValueMaxHistory)
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: cfg.Bucket, Description: "dreamood: documents of spaces, sets and detectors",
		History: uint8(cfg.History), Replicas: cfg.Replicas,
	})
	if err != nil {
		return nil, fmt.Errorf("open catalog bucket %s: %w", cfg.Bucket, err)
	}
	return &Catalog{kv: kv}, nil
}

// Create writes a document that must not exist yet, and returns its revision. ErrExists otherwise.
func (c *Catalog) Create(ctx context.Context, kind, id string, doc []byte) (uint64, error) {
	key, err := keyOf(kind, id, doc)
	if err != nil {
		return 0, err
	}
	revision, err := c.kv.Create(ctx, key, doc)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fmt.Errorf("%s/%s: %w", kind, id, ErrExists)
	}
	return revision, explain("create", kind, id, err)
}

// Put writes a document and returns its new revision. With revision 0 it is written whatever is there; otherwise only
// when its revision is still that one, and ErrConflict when not.
func (c *Catalog) Put(ctx context.Context, kind, id string, doc []byte, revision uint64) (uint64, error) {
	key, err := keyOf(kind, id, doc)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		revision, err = c.kv.Put(ctx, key, doc)
	} else {
		revision, err = c.kv.Update(ctx, key, doc, revision)
	}
	return revision, explain("write", kind, id, err)
}

// Get reads a document. ErrNotFound when there is none.
func (c *Catalog) Get(ctx context.Context, kind, id string) (Document, error) {
	if err := validName(kind, id); err != nil {
		return Document{}, err
	}
	entry, err := c.kv.Get(ctx, kind+"."+id)
	if err != nil {
		return Document{}, explain("read", kind, id, err)
	}
	return Document{Kind: kind, ID: id, JSON: entry.Value(), Revision: entry.Revision(), Updated: entry.Created()}, nil
}

// Delete removes a document, with revision 0 whatever it is, otherwise only that revision (ErrConflict when it was
// changed). ErrNotFound when there is none.
func (c *Catalog) Delete(ctx context.Context, kind, id string, revision uint64) error {
	doc, err := c.Get(ctx, kind, id)
	if err != nil {
		return err
	}
	if revision == 0 {
		revision = doc.Revision
	}
	return explain("delete", kind, id, c.kv.Delete(ctx, kind+"."+id, jetstream.LastRevision(revision)))
}

func keyOf(kind, id string, doc []byte) (string, error) {
	if err := validName(kind, id); err != nil {
		return "", err
	}
	if !json.Valid(doc) {
		return "", fmt.Errorf("document of %s/%s: %w: not JSON", kind, id, ErrInvalidDocument)
	}
	return kind + "." + id, nil
}

func validName(kind, id string) error {
	if !idPattern.MatchString(kind) {
		return fmt.Errorf("resource kind %q: %w", kind, ErrInvalidID)
	}
	if !idPattern.MatchString(id) {
		return fmt.Errorf("id %q of %s: %w", id, kind, ErrInvalidID)
	}
	return nil
}

// explain maps the bucket's errors to the catalog's and says what was tried.
func explain(what, kind, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%s/%s: %w", kind, id, ErrNotFound)
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return fmt.Errorf("%s/%s: %w", kind, id, ErrConflict)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%s %s/%s: %w: larger than a NATS message may be; put the bulk into an artifact: %w",
			what, kind, id, ErrInvalidDocument, err)
	}
	return fmt.Errorf("%s %s/%s in the catalog: %w", what, kind, id, err)
}
