package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The reasons for which the hub refuses.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorised = errors.New("not allowed")
)

// finalError is one that another attempt does not help.
type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

func final(err error) error { return finalError{err} }

// waitError is one that names the time until the next attempt.
type waitError struct {
	error
	wait time.Duration
}

const longestWait = time.Minute

// retry calls f until it succeeds. f says whether it got further, for then the attempts are counted anew.
func (c *Client) retry(ctx context.Context, what string, f func(context.Context) (further bool, err error)) error {
	wait := c.cfg.Backoff
	for attempt := 1; ; attempt++ {
		further, err := f(ctx)
		if err == nil {
			return nil
		}
		var end finalError
		if errors.As(err, &end) {
			return end.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if further {
			attempt, wait = 1, c.cfg.Backoff
		}
		if attempt >= c.cfg.Attempts {
			return fmt.Errorf("%s: given up after %d attempts: %w", what, attempt, err)
		}
		pause := wait/2 + rand.N(wait/2+1)
		var asked waitError
		if errors.As(err, &asked) && asked.wait > 0 {
			pause = asked.wait
		}
		c.cfg.Note(fmt.Sprintf("%s: %v; tried again in %s", what, err, pause.Round(time.Millisecond)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		wait = min(2*wait, longestWait)
	}
}

// refusal is the error of a status, and says what to do about it.
func (c *Client) refusal(r *http.Response, what string) error {
	said := r.Header.Get("X-Error-Message")
	if said == "" {
		said = r.Status
	}
	said = fmt.Sprintf("%s answers %.300q", r.Request.URL.Host, said)
	own := r.Request.URL.Host == c.base.Host
	code := r.Header.Get("X-Error-Code")
	switch s := r.StatusCode; {
	case s == http.StatusForbidden && !own:
		return fmt.Errorf("%s: %s", what, said) // a signature that ran out; the endpoint gives another one
	case s == http.StatusUnauthorized || s == http.StatusForbidden || code == "GatedRepo":
		advice := "it does not exist, or is not for everybody: set HF_TOKEN to a token that may read it"
		if c.cfg.Token != "" {
			advice = "the token in HF_TOKEN may not read it"
		}
		if code == "GatedRepo" {
			advice = "its terms have to be accepted on the hub first; " + advice
		}
		return final(fmt.Errorf("%s: %w: %s; %s", what, ErrUnauthorised, said, advice))
	case s == http.StatusNotFound || s == http.StatusGone:
		advice := "check the name of the repository"
		switch code {
		case "RevisionNotFound":
			advice = "the repository has no such branch, tag or commit"
		case "EntryNotFound":
			advice = "the repository has no such file at that revision"
		}
		return final(fmt.Errorf("%s: %w: %s; %s", what, ErrNotFound, said, advice))
	case s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s == http.StatusTooEarly || s >= 500:
		return waitError{fmt.Errorf("%s: %s", what, said), retryAfter(r.Header.Get("Retry-After"))}
	}
	return final(fmt.Errorf("%s: %s", what, said))
}

// retryAfter is the time that a server asks to wait, at most ten minutes; 0 where it asks for none.
func retryAfter(header string) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), 10*time.Minute)
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(0, time.Until(at)), 10*time.Minute)
	}
	return 0
}
