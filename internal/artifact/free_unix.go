//go:build unix

package artifact

import "syscall"

// Free is how many bytes can be written where the blobs lie; false where the system does not say.
func (f *Files) Free() (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(f.blobs, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
