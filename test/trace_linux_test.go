package test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// side of a system call.
type side uint8

// As ptrace(2) numbers them, PTRACE_GET_SYSCALL_INFO.
const (
	entry side = 1
	exit  side = 2
)

// System calls that have a path as their second argument.
const (
	renameat = syscall.SYS_RENAMEAT
	unlinkat = syscall.SYS_UNLINKAT
)

const (
	ptraceSeize       = 0x4206
	ptraceInterrupt   = 0x4207
	ptraceSyscallInfo = 0x420e
	ptraceOptions     = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE
	syscallStop       = syscall.SIGTRAP | 0x80
)

// killAt kills a process at the count-th system call of that number whose second argument, a path with a zero behind it,
// begins with path: before the kernel has done it, or after. It waits until the process is dead. Nobody may watch it:
// a thread that waits for a process is told of the stops that are its tracer's.
func killAt(t *testing.T, p *process, number uint64, at side, path string, count int) {
	t.Helper()
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	pid := p.cmd.Process.Pid
	threads, err := seize(pid)
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("needs the right to trace its own children: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{} // threads within the call
	for deadline := time.Now().Add(2 * time.Minute); ; {
		var status syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &status, syscall.WALL|syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil, time.Now().After(deadline), tid == pid && !status.Stopped():
			bury(p, pid, threads)
			t.Fatalf("the %s did not come to the system call %d on %s: %v, status %x", p.name, number, path, err, status)
		case tid == 0:
			time.Sleep(50 * time.Microsecond)
			continue
		case !status.Stopped():
			continue
		}
		threads[tid] = true
		signal := 0
		switch {
		case status.StopSignal() == syscallStop:
			info := callOf(tid)
			if side(info.op) == entry {
				found[tid] = info.number == number && bytes.HasPrefix(peek(pid, uintptr(info.args[1])), []byte(path))
			}
			if found[tid] && side(info.op) == at {
				if count--; count == 0 {
					bury(p, pid, threads)
					return
				}
			}
		case status>>16 == 0: // a signal on its way
			signal = int(status.StopSignal())
		}
		_ = syscall.PtraceSyscall(tid, signal) // dead: nothing goes on
	}
}

// seize traces all threads of a process, and those that they start, from here on.
func seize(pid int) (threads map[int]bool, err error) {
	threads = map[int]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if threads[tid] {
				continue
			}
			threads[tid], more = true, true
			if err := ptrace(ptraceSeize, tid, 0, ptraceOptions); errors.Is(err, syscall.EPERM) && traced(tid) || errors.Is(err, syscall.ESRCH) {
				continue // started by one that is traced, or ended
			} else if err != nil {
				return nil, fmt.Errorf("trace the process %d: %w", pid, err)
			}
			_ = ptrace(ptraceInterrupt, tid, 0, 0) // ended meanwhile
		}
	}
	return threads, nil
}

// traced says whether this process traces a thread already.
func traced(tid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return bytes.Contains(status, fmt.Appendf(nil, "\nTracerPid:\t%d\n", os.Getpid())) || !bytes.Contains(status, []byte("\nTracerPid:\t0\n"))
}

// bury kills a process that is traced, and waits for its end: the threads must be waited for by their tracer.
func bury(p *process, pid int, threads map[int]bool) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	delete(threads, pid)
	for _, tid := range append(slices.Collect(maps.Keys(threads)), pid) { // the first thread ends last
		for {
			var status syscall.WaitStatus
			_, err := syscall.Wait4(tid, &status, syscall.WALL, nil)
			if errors.Is(err, syscall.EINTR) || err == nil && status.Stopped() {
				continue
			}
			break
		}
	}
	p.ended = nil
}

type systemCall struct {
	op     uint8
	_      [3]byte
	arch   uint32
	ip, sp uint64
	number uint64 // of entry, like args
	args   [6]uint64
}

func callOf(tid int) (c systemCall) {
	_, _, _ = syscall.Syscall6(syscall.SYS_PTRACE, ptraceSyscallInfo, uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
	return c
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// peek reads memory of a process, as far as it goes.
func peek(pid int, at uintptr) []byte {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil
	}
	defer memory.Close()
	data := make([]byte, 512)
	n, _ := memory.ReadAt(data, int64(at))
	return data[:n]
}
