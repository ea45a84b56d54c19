package train

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dreamood/dreamood/internal/train/graph"
	"github.com/dreamood/dreamood/internal/train/safetensors"
)

// stateFormat names the layout of a checkpoint.
const stateFormat = "dreamood-train/1"

// State is a copy of everything that lives from step to step: parameters and
// running statistics under their PyTorch names, velocities and first moments under
// "momentum/…", second moments under "second/…", moving averages under "average/…".
func (t *Trainer) State() map[string]Array {
	out := make(map[string]Array, len(t.slots))
	for _, s := range t.slots {
		out[s.Name] = Array{Shape: slices.Clone(s.Shape), Data: slices.Clone(t.tensor(s.Name))}
	}
	return out
}

// SaveState writes a checkpoint, a safetensors file: training that goes on from
// it on the same machine takes bit for bit the same steps. A state with values
// that are not finite is refused.
func (t *Trainer) SaveState(w io.Writer) error {
	f := safetensors.File{Tensors: map[string]safetensors.Tensor{}, Metadata: map[string]string{
		"format": stateFormat, "network": t.spec.Network.String(), "step": strconv.FormatInt(t.step, 10),
	}}
	for _, s := range t.slots {
		data := t.tensor(s.Name)
		if i := slices.IndexFunc(data, notFinite); i >= 0 {
			return fmt.Errorf("save training state at step %d: %s holds %g: %w", t.step, s.Name, data[i], ErrDiverged)
		}
		f.Tensors[s.Name] = safetensors.Tensor{Shape: s.Shape, Data: data}
	}
	if err := safetensors.Write(w, f); err != nil {
		return fmt.Errorf("save training state at step %d: %w", t.step, err)
	}
	return nil
}

// LoadState takes over a checkpoint of the same network, head and optimiser. On
// an error the state is as before.
func (t *Trainer) LoadState(r io.Reader) error {
	f, err := safetensors.Read(r)
	if err != nil {
		return fmt.Errorf("load training state: %w", err)
	}
	step, err := strconv.ParseInt(f.Metadata["step"], 10, 64)
	if err != nil || step < 0 || f.Metadata["format"] != stateFormat {
		return fmt.Errorf("load training state: format %q, step %q: this is not a checkpoint of format %s",
			f.Metadata["format"], f.Metadata["step"], stateFormat)
	}
	missing, err := t.check(f.Tensors)
	if len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("%s missing", strings.Join(missing, ", ")))
	}
	if len(f.Tensors)+len(missing) > len(t.slots) {
		err = errors.Join(err, fmt.Errorf("%d tensors, the spec has %d", len(f.Tensors), len(t.slots)))
	}
	if err != nil {
		return fmt.Errorf("load training state of %s into %s: %w", f.Metadata["network"], t.spec.Network, err)
	}
	for _, s := range t.slots {
		copy(t.tensor(s.Name), f.Tensors[s.Name].Data)
	}
	t.step = step
	return nil
}

// LoadWeights starts from the parameters and running statistics of another
// training run, or of a PyTorch model saved as safetensors: what the file holds
// under the spec's names replaces the initial values. It returns the names that
// the file does not hold; velocities start at zero, and so does the step count.
func (t *Trainer) LoadWeights(r io.Reader) (missing []string, err error) {
	f, err := safetensors.Read(r)
	if err != nil {
		return nil, fmt.Errorf("load weights: %w", err)
	}
	missing, err = t.check(f.Tensors)
	if err != nil {
		return nil, fmt.Errorf("load weights into %s: %w", t.spec.Network, err)
	}
	for _, s := range t.slots {
		if isMomentum(s.Name) {
			clear(t.tensor(s.Name))
		} else if v, ok := f.Tensors[strings.TrimPrefix(s.Name, graph.Average(""))]; ok {
			copy(t.tensor(s.Name), v.Data)
		}
	}
	t.step = 0
	return slices.DeleteFunc(missing, func(name string) bool { return isMomentum(name) || isAverage(name) }), nil
}

// check compares tensors with the slots: the names that are not there, and an
// error for shapes that differ and values that are not finite.
func (t *Trainer) check(given map[string]safetensors.Tensor) (missing []string, err error) {
	var errs []error
	for _, s := range t.slots {
		v, ok := given[s.Name]
		switch {
		case !ok:
			missing = append(missing, s.Name)
		case !slices.Equal(v.Shape, s.Shape):
			errs = append(errs, fmt.Errorf("%s has shape %v, want %v", s.Name, v.Shape, s.Shape))
		case slices.ContainsFunc(v.Data, notFinite):
			errs = append(errs, fmt.Errorf("%s holds values that are not finite", s.Name))
		}
	}
	return missing, errors.Join(errs...)
}

// Inference is the classifier as it stands as an ONNX model, its moving average
// where the spec keeps one; see [Export].
func (t *Trainer) Inference(metadata map[string]string) ([]byte, error) {
	values := t.State()
	if t.spec.EMA > 0 {
		for name := range values {
			if a, ok := values[graph.Average(name)]; ok {
				values[name] = a
			}
		}
	}
	return Export(t.spec, values, metadata)
}

// isMomentum says whether a slot is the optimiser's own.
func isMomentum(name string) bool {
	return strings.HasPrefix(name, graph.Momentum("")) || strings.HasPrefix(name, graph.Second(""))
}

func isAverage(name string) bool { return strings.HasPrefix(name, graph.Average("")) }

func notFinite(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) }
