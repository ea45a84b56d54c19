package auth

import (
	"context"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/fault"
)

func TestWhoSeesAndSteersWhat(t *testing.T) {
	for _, c := range []struct {
		who         Identity
		owner       string
		sees, steer bool
	}{
		{Identity{"root", Admin}, "alice", true, true},
		{Identity{"root", Admin}, "", true, true},
		{Identity{"alice", Client}, "alice", true, true},
		{Identity{"alice", Client}, "bob", false, false},
		{Identity{"alice", Client}, "", false, false},
		{Identity{"alice", Viewer}, "bob", true, false},
		{Identity{"alice", Viewer}, "alice", true, false}, // a token for looking, of somebody who also has another one
		{Identity{"generator", Service}, "alice", true, false},
		{Identity{"generator", Service}, "generator", true, true},
	} {
		ctx := With(t.Context(), c.who)
		if got := Sees(ctx, c.owner); got != c.sees {
			t.Errorf("%v sees what belongs to %q: %v, want %v", c.who, c.owner, got, c.sees)
		}
		err := Steers(ctx, c.owner)
		if (err == nil) != c.steer || err != nil && fault.ReasonOf(err) != fault.PermissionDenied {
			t.Errorf("%v steers what belongs to %q: %v, want %v", c.who, c.owner, err, c.steer)
		}
		if Owner(ctx) != c.who.Name {
			t.Errorf("what %v makes belongs to %q", c.who, Owner(ctx))
		}
	}
}

func TestWithoutAuthenticationNothingIsRefused(t *testing.T) {
	ctx := context.Background()
	if _, ok := From(ctx); ok || Owner(ctx) != "" || !Sees(ctx, "alice") || Steers(ctx, "alice") != nil {
		t.Error("a context without an identity is restricted")
	}
}

func TestNamesOfIdentities(t *testing.T) {
	for _, name := range []string{"a", "alice", "alice@example.org", "spiffe://mesh/ns/default/sa/web", "CI-7.b_2+x", strings.Repeat("n", 128)} {
		if err := (Identity{name, Client}).Check(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-a", "a b", "a\nb", "a,b", "ä", "a\x00", strings.Repeat("n", 129)} {
		if (Identity{name, Client}).Check() == nil {
			t.Errorf("%q is a name", name)
		}
	}
	for _, role := range []Role{"", "root", "Admin"} {
		if (Identity{"a", role}).Check() == nil {
			t.Errorf("%q is a role", role)
		}
	}
}
