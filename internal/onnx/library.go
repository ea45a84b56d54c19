// Package onnx runs ONNX models with ONNX Runtime. It is the only importer of
// onnxruntime_go: it opens the shared library once per process, and offers
// sessions that are safe for concurrent use, checked inputs, and runs that a
// context cancels without native code left behind.
package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// LibraryEnv names the environment variable that holds the path of the ONNX
// Runtime shared library.
const LibraryEnv = "DREAMOOD_ONNXRUNTIME"

// library is the one ONNX environment of the process: the native library
// keeps global state, so it is opened once and never unloaded.
var library struct {
	sync.Mutex
	path      string
	providers []string
}

// Locate returns the path of the ONNX Runtime shared library: what
// DREAMOOD_ONNXRUNTIME names, else the newest
// .cache/onnxruntime/*/libonnxruntime.so* (.dylib on macOS) found upward from
// the working directory or from the folder of the executable.
func Locate() (string, error) {
	if path := os.Getenv(LibraryEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("locate ONNX Runtime: %s: %w", LibraryEnv, err)
		}
		return filepath.Abs(path)
	}
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		if path := searchUpward(dir); path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("locate ONNX Runtime: no .cache/onnxruntime/*/%s above %s: run `make setup`, or set %s to the shared library",
		libraryPattern(), strings.Join(starts, " or "), LibraryEnv)
}

func libraryPattern() string {
	if runtime.GOOS == "darwin" {
		return "libonnxruntime*.dylib"
	}
	return "libonnxruntime.so*"
}

func searchUpward(dir string) string {
	for {
		found, _ := filepath.Glob(filepath.Join(dir, ".cache", "onnxruntime", "*", libraryPattern()))
		found = slices.DeleteFunc(found, func(p string) bool {
			return strings.Contains(filepath.Base(p), "_providers_")
		})
		if len(found) > 0 {
			slices.Sort(found)
			return found[len(found)-1]
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// Open loads the shared library and creates the ONNX environment, once per
// process; "" means Locate. A later call is answered at once, unless it names
// another library. The constructors of sessions and tensors open the located
// library on first use.
func Open(libraryPath string) error {
	library.Lock()
	defer library.Unlock()
	return openLocked(libraryPath)
}

func openLocked(path string) error {
	if library.path != "" {
		if path == "" || samePath(path, library.path) {
			return nil
		}
		return fmt.Errorf("open ONNX Runtime %s: %s is open already; one library serves a process", path, library.path)
	}
	if path == "" {
		var err error
		if path, err = Locate(); err != nil {
			return err
		}
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("open ONNX Runtime %s: %w", path, err)
	}
	library.path = path
	return nil
}

func samePath(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Version returns the version of the opened library, "" when it cannot be opened.
func Version() string {
	if Open("") != nil {
		return ""
	}
	return ort.GetVersion()
}

// Providers lists the execution providers of Config.Provider that the library
// offers, "cpu" always first. A provider is listed when ONNX Runtime can load
// it; whether its device works shows when a session is made. It is empty when
// the library cannot be opened.
func Providers() []string {
	library.Lock()
	defer library.Unlock()
	if openLocked("") != nil {
		return nil
	}
	if library.providers == nil {
		list := []string{"cpu"}
		for _, name := range []string{"openvino", "cuda", "tensorrt"} {
			if offered(name) {
				list = append(list, name)
			}
		}
		library.providers = list
	}
	return slices.Clone(library.providers)
}

func offered(provider string) bool {
	err := keepSignalStack(func() error {
		options, err := ort.NewSessionOptions()
		if err != nil {
			return err
		}
		defer options.Destroy()
		return appendProvider(options, Config{Provider: provider})
	})
	return err == nil
}
