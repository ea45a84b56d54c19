// Package engine renders in a child process: the same executable, under a supervisor that starts it again when it
// crashes or hangs, and replaces it to free memory. A process that loads CUDA cannot handle signals as Go does, gives
// GPU memory back only by ending, and may be ended by a kernel at any time; so it is not the one that talks gRPC and
// NATS (decision 0026). Whole work items go in, pictures come out.
package engine

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"strings"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/stage"
)

// work is what is rendered. Functions of the options stay where they are.
type work struct {
	Dir     string
	Items   []diffusion.Item
	Options diffusion.Options
	Preview bool // previews are wanted
	Save    bool // check-points are wanted
	Parts   bool // somebody listens to the parts of the work
}

// event is what happens to work; one field is set.
type event struct {
	Preview    *diffusion.Preview
	Checkpoint *diffusion.Checkpoint
	Part       *stage.Part
	Image      *diffusion.Image // the next one, when all are done
}

// about is what a model is.
type about struct {
	Width, Batch int
	Latents      [3]int
	Encoder      bool // pictures can be given
	Height, Wide int  // of pictures
	Scheduler    string
	Options      []byte // of the scheduler, JSON
	Digest       string
	Parts        map[string]string
}

// maxMessage bounds a message in bytes: a picture of 16384 by 16384 pixels, or the check-point of a large batch.
const maxMessage = 1 << 30

func pack(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func unpack(data []byte, v any) error { return gob.NewDecoder(bytes.NewReader(data)).Decode(v) }

// ErrClosed is returned once the supervisor is closed.
var ErrClosed = errors.New("the engine is closed")

// CrashError is the end of work whose engine process crashed, hung or could not be started. The same work may be tried
// again: the next process is another one.
type CrashError struct {
	Why   string
	Times int // that processes ended under this work
}

func (e *CrashError) Error() string {
	if e.Times > 1 {
		return fmt.Sprintf("the engine process %s (for the %dth time under this work); it is started again", e.Why, e.Times)
	}
	return fmt.Sprintf("the engine process %s; it is started again", e.Why)
}

// recognised is an error out of the process that callers can tell as they can in this one: status messages carry texts.
func recognised(err error) error {
	if err != nil && strings.Contains(err.Error(), diffusion.ErrNotFinite.Error()) {
		return notFinite{err}
	}
	return err
}

type notFinite struct{ error }

func (e notFinite) Unwrap() []error { return []error{e.error, diffusion.ErrNotFinite} }
