package diffusion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// What the exporters of Stable Diffusion models leave out of a model or write
// in their own way.

// The sizes of a U-Net without a configuration, which leaves them dynamic: the
// defaults of diffusers' ONNX pipeline.
const (
	defaultChannels = 4
	defaultLatent   = 64
)

// readOptional reads a configuration that may be missing.
func readOptional(path string, into any) error {
	if err := readJSON(path, maxConfigFile, into); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tokenTableShape finds the [vocabulary, width] of the token embeddings where no
// configuration names them: the table with the most rows from which a Gather
// takes rows. The position embeddings have as many as a prompt has tokens.
func tokenTableShape(g *onnxpb.GraphProto) (vocabulary, width int64, err error) {
	for _, n := range g.Node {
		if n.OpType != "Gather" || len(n.Input) != 2 || attribute(n, "axis", 0) != 0 {
			continue
		}
		if t, kind := stored(g, n.Input[0]); t != nil && len(t.Dims) == 2 && t.Dims[0] > vocabulary {
			if kind == onnx.Float32 || kind == onnx.Float16 || kind == onnx.BFloat16 {
				vocabulary, width = t.Dims[0], t.Dims[1]
			}
		}
	}
	if vocabulary < 1 || vocabulary > maxVocabulary || width < 1 || width > maxWidth {
		return 0, 0, fmt.Errorf("there is no config.json, and no table of token embeddings in the graph tells the sizes (found [%d, %d])", vocabulary, width)
	}
	return vocabulary, width, nil
}

// keepStates makes last_hidden_state the only output, in float32: what is not
// asked for is not computed, and the size of a float16 output need not be known
// before the run.
func keepStates(g *onnxpb.GraphProto) error {
	at := slices.IndexFunc(g.Output, func(v *onnxpb.ValueInfoProto) bool { return v.Name == "last_hidden_state" })
	if at < 0 {
		at = slices.IndexFunc(g.Output, func(v *onnxpb.ValueInfoProto) bool {
			return len(v.GetType().GetTensorType().GetShape().GetDim()) == 3
		})
	}
	if at < 0 {
		return errors.New("it has no output \"last_hidden_state\" [B, L, H]")
	}
	g.Output = g.Output[at : at+1]
	widenOutput(g, g.Output[0])
	return nil
}

// widenOutput gives a 16-bit output of the graph as float32. Its name is kept.
func widenOutput(g *onnxpb.GraphProto, out *onnxpb.ValueInfoProto) {
	tensor := out.GetType().GetTensorType()
	if kind := onnx.DType(tensor.GetElemType()); kind != onnx.Float16 && kind != onnx.BFloat16 {
		return
	}
	narrow := surgeryPrefix + out.Name
	for _, n := range g.Node {
		for _, list := range [][]string{n.Input, n.Output} {
			for i, name := range list {
				if name == out.Name {
					list[i] = narrow
				}
			}
		}
	}
	tensor.ElemType = int32(onnxpb.TensorProto_FLOAT)
	g.Node = append(g.Node, onnxpb.Node("Cast", []string{narrow}, []string{out.Name}, onnxpb.AttrInt("to", int64(onnxpb.TensorProto_FLOAT))))
}

// openWide loads a model with its 16-bit outputs as float32.
func openWide(path string, cfg onnx.Config) (*onnx.Session, error) {
	data, err := onnx.ReadModel(path)
	if err != nil {
		return nil, err
	}
	_, outputs, err := onnx.Describe(data)
	if err == nil && !slices.ContainsFunc(outputs, func(io onnx.IO) bool { return io.DType.Size() == 2 }) {
		return onnx.NewSessionFile(path, cfg)
	}
	var model *onnxpb.ModelProto
	if err == nil {
		model, err = onnxpb.Unmarshal(data)
	}
	if err == nil {
		for _, out := range model.Graph.Output {
			widenOutput(model.Graph, out)
		}
		data, err = onnxpb.Marshal(model)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cfg.ExternalData = filepath.Dir(path)
	s, err := onnx.NewSession(data, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// jsonWidth is a width that configurations write as one number, or as one for
// each block.
type jsonWidth []int

func (w *jsonWidth) UnmarshalJSON(data []byte) error {
	var one int
	if err := json.Unmarshal(data, &one); err == nil {
		*w = jsonWidth{one}
		return nil
	}
	return json.Unmarshal(data, (*[]int)(w))
}
