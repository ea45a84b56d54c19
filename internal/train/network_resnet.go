package train

import (
	"fmt"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// ResNet is the residual network of He et al. 2016 with 18 or 34 layers. In its form for small pictures it has a 3 by 3
// stem of stride 1 without pooling; in that for ImageNet a 7 by 7 stem of stride 2 with 3 by 3 max pooling (sizes are then
// multiples of 32). Width is the channels of the stem (64 is the original); it has 8·width features. The parameters are
// named as in torchvision.
type ResNet struct {
	Depth, Width int
	ImageNet     bool
}

// ResNet18 is the one of 18 layers for small pictures.
func ResNet18(width int) ResNet { return ResNet{Depth: 18, Width: width} }

// ResNet34 is the one of 34 layers for small pictures.
func ResNet34(width int) ResNet { return ResNet{Depth: 34, Width: width} }

// units are the blocks of each stage by depth.
var units = map[int][4]int{18: {2, 2, 2, 2}, 34: {3, 4, 6, 3}}

// String is "resnet18/<width>", or "resnet18-imagenet/<width>".
func (n ResNet) String() string {
	stem := ""
	if n.ImageNet {
		stem = "-imagenet"
	}
	return fmt.Sprintf("resnet%d%s/%d", n.Depth, stem, n.Width)
}

// Features is 8·width.
func (n ResNet) Features() int { return 8 * n.Width }

func (n ResNet) validate() error {
	if _, ok := units[n.Depth]; !ok {
		return fmt.Errorf("network %s: a residual network has 18 or 34 layers here", n)
	}
	return checkWidth(n, n.Width)
}

func (n ResNet) build(b *graph.Builder, x *graph.Tensor) *graph.Tensor {
	if n.ImageNet {
		x = b.Relu(b.BatchNorm(convolution(b, x, "conv1.weight", n.Width, 7, 2), "bn1"))
		x = b.MaxPool3(x)
	} else {
		x = b.Relu(b.BatchNorm(convolution(b, x, "conv1.weight", n.Width, 3, 1), "bn1"))
	}
	for stage, count := range units[n.Depth] {
		for unit := range count {
			stride := 1
			if stage > 0 && unit == 0 {
				stride = 2
			}
			x = basicBlock(b, x, fmt.Sprintf("layer%d.%d", stage+1, unit), n.Width<<stage, stride)
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
