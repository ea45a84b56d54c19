package reload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// later lets a value look at its files again.
func later[T any](v *Value[T]) T {
	v.mu.Lock()
	v.checked = time.Time{}
	v.mu.Unlock()
	return v.Get()
}

func TestValueFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "1")
	made := 0
	var told []error
	build := func(c [][]byte) (string, error) {
		made++
		if string(c[1]) == "bad" {
			return "", errors.New("is bad")
		}
		return string(c[0]) + string(c[1]), nil
	}
	failed := func(err error) { told = append(told, err) }
	if _, err := New([]string{a, b}, build, failed); err == nil || !strings.Contains(err.Error(), b) {
		t.Errorf("a file that is missing: %v", err)
	}
	write(t, b, "bad")
	if _, err := New([]string{a, b}, build, failed); err == nil || err.Error() != "is bad" {
		t.Errorf("a file that cannot be used: %v", err)
	}
	write(t, b, "2")
	made = 0
	v, err := New([]string{a, b}, build, failed)
	if err != nil {
		t.Fatal(err)
	}
	write(t, b, "3")
	if got := v.Get(); got != "12" {
		t.Errorf("%q at once; files are looked at once a second", got)
	}
	if got := later(v); got != "13" {
		t.Errorf("%q after a change", got)
	}
	if later(v); made != 2 {
		t.Errorf("made %d times of two contents", made)
	}
	write(t, b, "bad")
	if got, again := later(v), later(v); got != "13" || again != "13" || len(told) != 1 {
		t.Errorf("%q, %q and %d complaints about a bad file, want the old value and 1", got, again, len(told))
	}
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	if got := later(v); got != "13" || len(told) != 2 {
		t.Errorf("%q and %d complaints about a file that is gone, want the old value and 2", got, len(told))
	}
	write(t, b, "3")
	if later(v); made != 4 { // the first, "3", and "bad" twice
		t.Errorf("made %d times", made)
	}
	write(t, b, "4")
	if got := later(v); got != "14" {
		t.Errorf("%q after it was mended", got)
	}
}
