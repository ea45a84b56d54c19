package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestReasonSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("render: %w", New(NotFound, "set %q: %w", "a", io.EOF))
	if ReasonOf(err) != NotFound || !errors.Is(err, io.EOF) || !Permanent(err) {
		t.Fatalf("reason %v, is EOF %v", ReasonOf(err), errors.Is(err, io.EOF))
	}
	if ReasonOf(fmt.Errorf("x: %w", context.Canceled)) != Cancelled || ReasonOf(io.EOF) != Internal || ReasonOf(nil) != "" {
		t.Fatal("reasons of plain errors are wrong")
	}
	if Permanent(io.EOF) || Permanent(New(Unavailable, "away")) {
		t.Fatal("a passing problem is called permanent")
	}
}

func TestChecksReportEverythingAtOnce(t *testing.T) {
	var c Checks
	c.That(true, "fine", "never")
	if c.Err() != nil {
		t.Fatal("no problem, yet an error")
	}
	c.That(false, "k", "%d is above %d", 9, 3)
	c.Add("sigma", "is NaN")
	if got, want := c.Err().Error(), "k: 9 is above 3; sigma: is NaN"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestJoinKeepsEveryViolation(t *testing.T) {
	if err := Join(nil, Invalid("a", "x"), nil, Invalid("b", "y")); err == nil || err.Error() != "a: x; b: y" {
		t.Fatalf("got %v", err)
	}
	if err := Join(Invalid("a", "x"), io.EOF); err != io.EOF {
		t.Fatalf("another error came out as %v", err)
	}
	if err := Join(nil, nil); err != nil {
		t.Fatal(err)
	}
}
