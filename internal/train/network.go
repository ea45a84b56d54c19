package train

import (
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// Network turns standardised pictures [N, 3, H, W] into features [N, F]. The
// set is closed: [ResNet9] and [ResNet18].
type Network interface {
	fmt.Stringer
	// Features is F, the number of features.
	Features() int
	validate() error
	build(b *graph.Builder, x *graph.Tensor) *graph.Tensor
}

// NewNetwork is the network of that name ("resnet9", "resnet18") and width.
func NewNetwork(name string, width int) (Network, error) {
	var n Network
	switch name {
	case "resnet9":
		n = ResNet9(width)
	case "resnet18":
		n = ResNet18(width)
	default:
		return nil, fmt.Errorf("network %q: known are resnet9 and resnet18", name)
	}
	return n, n.validate()
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

// ResNet18 is the residual network of He et al. 2016 with 18 layers in its form
// for small pictures: a 3 by 3 stem of stride 1 without pooling. The width is
// the channels of the stem (64 is the original); it has 8·width features. The
// parameters are named as in torchvision.
type ResNet18 int

// String is "resnet18/<width>".
func (w ResNet18) String() string { return fmt.Sprintf("resnet18/%d", int(w)) }

// Features is 8·width.
func (w ResNet18) Features() int { return 8 * int(w) }

func (w ResNet18) validate() error { return checkWidth(w, int(w)) }

func (w ResNet18) build(b *graph.Builder, x *graph.Tensor) *graph.Tensor {
	x = convolution(b, x, "conv1.weight", int(w), 3, 1)
	x = b.Relu(b.BatchNorm(x, "bn1"))
	for stage := range 4 {
		for unit := range 2 {
			stride := 1
			if stage > 0 && unit == 0 {
				stride = 2
			}
			x = basicBlock(b, x, fmt.Sprintf("layer%d.%d", stage+1, unit), int(w)<<stage, stride)
		}
	}
	return b.GlobalAveragePool(x)
}

// basicBlock is two 3 by 3 convolutions beside a shortcut, which is a 1 by 1
// convolution where the shape changes.
func basicBlock(b *graph.Builder, x *graph.Tensor, prefix string, out, stride int) *graph.Tensor {
	y := convolution(b, x, prefix+".conv1.weight", out, 3, stride)
	y = b.Relu(b.BatchNorm(y, prefix+".bn1"))
	y = convolution(b, y, prefix+".conv2.weight", out, 3, 1)
	y = b.BatchNorm(y, prefix+".bn2")
	if stride != 1 || x.Shape()[1] != out {
		x = convolution(b, x, prefix+".downsample.0.weight", out, 1, stride)
		x = b.BatchNorm(x, prefix+".downsample.1")
	}
	return b.Relu(b.Add(y, x))
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
