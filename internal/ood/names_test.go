package ood

import (
	"strings"
	"testing"
)

func TestIDTakesOnlyNamesOfItsCollection(t *testing.T) {
	if id, err := Spaces.ID(Spaces.Name("cifar10")); err != nil || id != "cifar10" {
		t.Fatalf("round trip gave %q, %v", id, err)
	}
	for _, bad := range []string{"", "spaces", "spaces/", "sets/a", "spaces/A", "spaces/a/b", "spaces/../x", "spaces/-a",
		"spaces/" + strings.Repeat("a", 64), "spaces/a b", "spaces/a\x00"} {
		if id, err := Spaces.ID(bad); err == nil {
			t.Errorf("%q gave the id %q", bad, id)
		}
	}
}
