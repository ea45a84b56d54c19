// Package ood is the vocabulary that all roles share: resource names and the terms of DESIGN.md.
// It knows nothing of transport or storage.
package ood

import (
	"fmt"
	"regexp"
	"strings"
)

// Collection is the first part of a resource name.
type Collection string

// The collections of the mesh.
const (
	Spaces     Collection = "spaces"
	Embeddings Collection = "embeddings"
	Sets       Collection = "sets"
	Detectors  Collection = "detectors"
	Runs       Collection = "runs"
)

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// ValidID reports whether id can name a resource: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// Name is the resource name of an id, e.g. "spaces/cifar10".
func (c Collection) Name(id string) string { return string(c) + "/" + id }

// ID takes the id out of a resource name of this collection.
func (c Collection) ID(name string) (string, error) {
	id, ok := strings.CutPrefix(name, string(c)+"/")
	if !ok || !ValidID(id) {
		return "", fmt.Errorf("%q is not of the form %s/ID (ID: 1 to 63 of a-z 0-9 - _)", name, c)
	}
	return id, nil
}
