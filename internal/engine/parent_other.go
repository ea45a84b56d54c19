//go:build !linux

package engine

import (
	"os"
	"syscall"
)

// dieWithParent leaves it to the end of standard input that the process ends with its parent.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func executable() (string, error) { return os.Executable() }

// resident is not known here.
func resident(int) int64 { return 0 }

// memoryKills is not known here.
func memoryKills() int64 { return 0 }
