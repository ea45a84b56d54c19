package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// modeEnv makes this test's executable an engine process, or the parent of one.
const modeEnv = "DREAMOOD_ENGINE_TEST"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(modeEnv) {
	case "":
		goleak.VerifyTestMain(m)
		return
	case "engine":
		err = Serve(func(dir string, cfg diffusion.Config) (Model, error) {
			p, err := diffusion.Open(dir, cfg)
			return deadly{p}, err
		})
	case "empty":
		err = Serve(func(string, diffusion.Config) (Model, error) { return empty{}, nil })
	case "parent":
		err = parent()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// deadly is a model that ends its process under some prompts.
type deadly struct{ *diffusion.Pipeline }

func (d deadly) Render(ctx context.Context, items []diffusion.Item, opts diffusion.Options) ([]diffusion.Image, error) {
	for _, item := range items {
		switch {
		case strings.Contains(item.Prompt, "kill"):
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case strings.Contains(item.Prompt, "panic"):
			panic("a defect in the engine")
		case strings.Contains(item.Prompt, "stop"):
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			time.Sleep(time.Hour) // until it takes effect
		case strings.Contains(item.Prompt, "deaf"):
			time.Sleep(time.Hour) // and does not hear of a cancel
		}
	}
	return d.Pipeline.Render(ctx, items, opts)
}

// empty is a model that costs nothing.
type empty struct{}

func (empty) Width() int                                      { return 1 }
func (empty) Batch() int                                      { return 1 }
func (empty) LatentShape() [3]int                             { return [3]int{1, 1, 1} }
func (empty) HasEncoder() bool                                { return false }
func (empty) PictureSize(context.Context) (int, int, error)   { return 1, 1, nil }
func (empty) SchedulerName(name string) string                { return name }
func (empty) SchedulerOptions() (map[string]any, error)       { return nil, nil }
func (empty) Digest() (string, error)                         { return "digest", nil }
func (empty) PartDigests() (map[string]string, error)         { return nil, nil }
func (empty) Tokens(string) ([]int64, error)                  { return []int64{1}, nil }
func (empty) Check([]diffusion.Item, diffusion.Options) error { return nil }
func (empty) Close() error                                    { return nil }
func (empty) Render(_ context.Context, items []diffusion.Item, _ diffusion.Options) ([]diffusion.Image, error) {
	return make([]diffusion.Image, len(items)), nil
}

// parent starts an engine process, says which, and waits to be killed.
func parent() error {
	s, err := New(Config{Command: []string{os.Args[0]}, Env: []string{modeEnv + "=empty"}})
	if err != nil {
		return err
	}
	if _, err := s.Open("x"); err != nil {
		return err
	}
	fmt.Println(s.PID())
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	return err
}
