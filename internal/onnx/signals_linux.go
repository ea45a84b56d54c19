//go:build linux && (amd64 || arm64)

package onnx

import (
	"runtime"
	"syscall"
	"unsafe"
)

// sigaltstackArg is the kernel's stack_t.
type sigaltstackArg struct {
	pointer uintptr
	flags   int32
	size    uintptr
}

const (
	sigSetMask  = 2
	sigMaskSize = 8 // bytes
)

// keepSignalStack runs native code that replaces the signal stack of its
// thread, and puts the stack back.
//
// OpenVINO's CPU plugin does so when it starts: on its thread it leaves a stack
// of AT_MINSIGSTKSZ bytes, which holds the kernel's frame and nothing else. The
// next signal that Go handles there, preemption for one, overflows it, and the
// process dies of SIGSEGV without a trace. So the thread takes no asynchronous
// signals while f runs, and gets its own signal stack back afterwards.
func keepSignalStack(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	for _, s := range []syscall.Signal{syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS} {
		all &^= 1 << (s - 1)
	}
	var mask uint64
	var stack sigaltstackArg
	if !setSignalMask(&all, &mask) {
		return f()
	}
	defer setSignalMask(&mask, nil)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SIGALTSTACK, 0, uintptr(unsafe.Pointer(&stack)), 0); errno != 0 {
		return f()
	}
	defer func() {
		syscall.RawSyscall(syscall.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(&stack)), 0, 0)
	}()
	return f()
}

func setSignalMask(set, old *uint64) bool {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), sigMaskSize, 0, 0)
	return errno == 0
}
