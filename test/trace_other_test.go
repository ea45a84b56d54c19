//go:build !linux

package test

import "testing"

type side uint8

const (
	entry side = 1
	exit  side = 2
)

const renameat, unlinkat = 0, 0

// killAt needs Linux.
func killAt(t *testing.T, _ *process, _ uint64, _ side, _ string, _ int) {
	t.Helper()
	t.Skip("stopping a process in a system call needs ptrace of Linux")
}
