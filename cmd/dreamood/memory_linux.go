package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memory is the memory that this process may use in bytes: the machine's, or its control group's where that is
// less; 0 when nobody can say.
func memory() uint64 {
	var total uint64
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = uint64(info.Totalram) * uint64(info.Unit)
	}
	raw, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return total
	}
	if limit, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err == nil && (total == 0 || limit < total) {
		return limit
	}
	return total
}
