//go:build unix

package generator

import (
	"io/fs"
	"syscall"
)

// inode is the number of a file in its file system.
func inode(stat fs.FileInfo) uint64 {
	if s, ok := stat.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino)
	}
	return 0
}
