package engine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// dieWithParent has the kernel kill the process when the parent dies, and keeps the terminal's Ctrl+C from it: the
// parent decides when it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// executable is this program, even after its file was replaced.
func executable() (string, error) { return "/proc/self/exe", nil }

// resident is the memory of a process in bytes; 0 when that is not known.
func resident(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := bytes.Fields(data)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// memoryKills is how often the kernel has killed a process of this control group for want of memory.
func memoryKills() int64 {
	data, err := os.ReadFile("/sys/fs/cgroup/memory.events")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(data) {
		if count, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(count)), 10, 64)
			return n
		}
	}
	return 0
}
