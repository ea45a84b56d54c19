package bus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked means that another server works on the folder.
var ErrLocked = errors.New("the folder is in use")

// lockDir takes the folder for one server. The lock ends with the returned file or the process, however that dies.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "dreamood.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of the embedded NATS server: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, fmt.Errorf("%s: %w by %s; stop it, or use its server by a URL (serve --nats-listen there), or choose another folder",
			dir, ErrLocked, holder(file))
	}
	if err := file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil { // the number only serves the message above, but a full disk is better known now
			file.Close()
			return nil, fmt.Errorf("write %s: %w", path, err)
		}
	}
	return file, nil
}

func holder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}
