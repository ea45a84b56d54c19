package artifact

import (
	"io/fs"
	"syscall"
	"time"
)

// changed is when a file was last put, touched or moved. A move alone leaves the time of its content.
func changed(info fs.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix())
	}
	return info.ModTime()
}
