package train

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Network turns standardised pictures [N, 3, H, W] into features [N, F]. The
// set is closed: [ResNet9], [ResNet] and [WRN].
type Network interface {
	fmt.Stringer
	// Features is F, the number of features.
	Features() int
	validate() error
	build(b *graph.Builder, x *graph.Tensor) *graph.Tensor
}

// networks are the known ones by name, with the width that is theirs in publications.
var networks = map[string]struct {
	width int
	of    func(width int) Network
}{
	"resnet9":           {64, func(w int) Network { return ResNet9(w) }},
	"resnet18":          {64, func(w int) Network { return ResNet18(w) }},
	"resnet34":          {64, func(w int) Network { return ResNet34(w) }},
	"resnet18-imagenet": {64, func(w int) Network { return ResNet{Depth: 18, Width: w, ImageNet: true} }},
	"resnet34-imagenet": {64, func(w int) Network { return ResNet{Depth: 34, Width: w, ImageNet: true} }},
	"wrn-16-2":          {16, func(w int) Network { return WRN{Depth: 16, Widen: 2, Width: w} }},
	"wrn-40-2":          {16, func(w int) Network { return WRN{Depth: 40, Widen: 2, Width: w} }},
}

// Networks are the names that [NewNetwork] knows, sorted.
func Networks() []string { return slices.Sorted(maps.Keys(networks)) }

// NewNetwork is the network of that name and width (channels of the first layer); width 0 is the published one.
func NewNetwork(name string, width int) (Network, error) {
	n, ok := networks[name]
	if !ok {
		return nil, fmt.Errorf("network %q: known are %s", name, strings.Join(Networks(), ", "))
	}
	if width == 0 {
		width = n.width
	}
	made := n.of(width)
	return made, made.validate()
}

// ResNet9 is the nine-layer residual network of the DAWNBench entries, of the
// given width (channels of the first layer; 64 is the original): convolution,
// batch normalisation and ReLU with 2 by 2 max pooling between, two residual
// blocks, global max pooling. It has 8·width features.
type ResNet9 int

// String is "resnet9/<width>".
func (w ResNet9) String() string { return fmt.Sprintf("resnet9/%d", int(w)) }

// Features is 8·width.
func (w ResNet9) Features() int { return 8 * int(w) }

func (w ResNet9) validate() error { return checkWidth(w, int(w)) }

func (w ResNet9) build(b *graph.Builder, x *graph.Tensor) *graph.Tensor {
	n := int(w)
	x = block9(b, x, "l.0", n, false)
	x = block9(b, x, "l.1", 2*n, true)
	x = residual9(b, x, "l.2")
	x = block9(b, x, "l.3", 4*n, true)
	x = block9(b, x, "l.4", 8*n, true)
	x = residual9(b, x, "l.5")
	return b.GlobalMaxPool(x)
}

func block9(b *graph.Builder, x *graph.Tensor, prefix string, out int, pool bool) *graph.Tensor {
	x = convolution(b, x, prefix+".c.weight", out, 3, 1)
	if pool {
		x = b.MaxPool(x)
	}
	return b.Relu(b.BatchNorm(x, prefix+".b"))
}

func residual9(b *graph.Builder, x *graph.Tensor, prefix string) *graph.Tensor {
	c := x.Shape()[1]
	y := block9(b, block9(b, x, prefix+".a", c, false), prefix+".b", c, false)
	return b.Add(x, y)
}

// convolution declares a weight [out, C, k, k] drawn from N(0, 2/(C·k²)) (He et
// al. 2015, fan in) and applies it.
func convolution(b *graph.Builder, x *graph.Tensor, name string, out, k, stride int) *graph.Tensor {
	c := x.Shape()[1]
	init := graph.Init{Kind: graph.Normal, Scale: math.Sqrt(2 / float64(c*k*k))}
	return b.Conv(x, b.Param(name, true, init, out, c, k, k), stride)
}

// linear is a new layer of that prefix applied to x [N, I].
func linear(b *graph.Builder, x *graph.Tensor, prefix string, out int) *graph.Tensor {
	w, bias := layer(b, x.Shape()[1], prefix, out)
	return b.Linear(x, w, bias)
}

// layer declares prefix.weight [out, in] and prefix.bias [out], both drawn from
// U(−1/√in, 1/√in) as PyTorch does.
func layer(b *graph.Builder, in int, prefix string, out int) (weight, bias *graph.Tensor) {
	init := graph.Init{Kind: graph.Uniform, Scale: 1 / math.Sqrt(float64(in))}
	return b.Param(prefix+".weight", true, init, out, in), b.Param(prefix+".bias", false, init, out)
}

func checkWidth(n Network, width int) error {
	if width < 1 || width > 1024 {
		return fmt.Errorf("network %s: the width lies between 1 and 1024", n)
	}
	return nil
}
