//go:build !linux

package artifact

import (
	"io/fs"
	"time"
)

// changed is when a file was last put or touched.
func changed(info fs.FileInfo) time.Time { return info.ModTime() }
