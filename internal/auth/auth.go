// Package auth says who calls: the identity of an authenticated client, its role, and what the owner of a run may do
// with it. It knows nothing of transport; internal/rpc finds the identity of a call and puts it into its context.
//
// A context without an identity is one of a mesh without authentication, or of work inside the process. Nothing is
// refused there, as nobody can be told apart.
package auth

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/dreamood/dreamood/internal/fault"
)

// Role is what an identity may do.
type Role string

// The roles.
const (
	Admin   Role = "admin"   // everything
	Client  Role = "client"  // reads what the mesh has made, starts work, sees and steers its own runs
	Viewer  Role = "viewer"  // sees everything, changes nothing
	Service Role = "service" // a process of the mesh; says for whom it calls
)

// Roles are all roles.
var Roles = []Role{Admin, Client, Viewer, Service}

// Identity is who calls.
type Identity struct {
	Name string
	Role Role
}

// namePattern allows what certificates name (URI, e-mail address, host name) and nothing that breaks a line of a file or
// a header.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}$`)

// Check says what is wrong with an identity.
func (i Identity) Check() error {
	if !namePattern.MatchString(i.Name) {
		return fmt.Errorf("name %q: want 1 to 128 of A-Z a-z 0-9 . _ @ : / + -, the first a letter or digit", i.Name)
	}
	if !slices.Contains(Roles, i.Role) {
		return fmt.Errorf("role %q of %s: want one of %v", i.Role, i.Name, Roles)
	}
	return nil
}

type key struct{}

// With is a context of calls by an identity.
func With(ctx context.Context, i Identity) context.Context { return context.WithValue(ctx, key{}, i) }

// From is the identity of a call; false where clients are not authenticated.
func From(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(key{}).(Identity)
	return i, ok
}

// Owner owns what a call makes; "" where clients are not authenticated.
func Owner(ctx context.Context) string {
	i, _ := From(ctx)
	return i.Name
}

// Sees reports whether the caller may know what belongs to owner. To a client the work of others does not exist.
func Sees(ctx context.Context, owner string) bool {
	i, ok := From(ctx)
	return !ok || i.Role != Client || i.Name == owner
}

// Steers returns PermissionDenied when the caller may see what belongs to owner, and not change it. Ask Sees before.
func Steers(ctx context.Context, owner string) error {
	i, ok := From(ctx)
	if !ok || i.Role == Admin || i.Role != Viewer && i.Name == owner {
		return nil
	}
	return fault.New(fault.PermissionDenied, "%s (role %s) may not change what belongs to %s; ask its owner or an admin", i.Name, i.Role, whose(owner))
}

func whose(owner string) string {
	if owner == "" {
		return "nobody"
	}
	return fmt.Sprintf("%q", owner)
}
