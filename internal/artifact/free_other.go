//go:build !unix

package artifact

// Free is how many bytes can be written where the blobs lie; false where the system does not say.
func (f *Files) Free() (int64, bool) { return 0, false }
