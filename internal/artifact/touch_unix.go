//go:build unix

package artifact

import "golang.org/x/sys/unix"

// touch sets the time of a file to now by the clock of the file system, which may be another machine's.
func touch(path string) error { return unix.Utimes(path, nil) }
