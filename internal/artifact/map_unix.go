//go:build unix

package artifact

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps the first size bytes of a file, and returns what unmaps them.
func mapFile(file *os.File, size int) ([]byte, func([]byte), error) {
	data, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	return data, func(data []byte) { _ = unix.Munmap(data) }, err // it fails only for what is no mapping
}
