package train

import (
	"fmt"

	"github.com/dreamood/dreamood/internal/train/graph"
)

// WRN is the wide residual network of Zagoruyko and Komodakis 2016, with batch normalisation and ReLU before the
// convolutions: three stages of (Depth−4)/6 blocks with Width·Widen, twice and four times as many channels. Width is the
// channels of the stem (16 is the original); it has 4·Widen·Width features. The parameters are named as in the PyTorch
// code that Outlier Exposure and Dream-OOD use (conv1, block1.layer.0.bn1, …, bn1).
type WRN struct {
	Depth, Widen, Width int
}

// String is "wrn-<depth>-<widen>/<width>".
func (n WRN) String() string { return fmt.Sprintf("wrn-%d-%d/%d", n.Depth, n.Widen, n.Width) }

// Features is 4·widen·width.
func (n WRN) Features() int { return 4 * n.Widen * n.Width }

func (n WRN) validate() error {
	if n.Depth < 10 || n.Depth%6 != 4 || n.Widen < 1 || n.Widen > 16 {
		return fmt.Errorf("network %s: the depth is 6·blocks + 4, at least 10, and it is widened 1 to 16 times", n)
	}
	return checkWidth(n, n.Width)
}

func (n WRN) build(b *graph.Builder, x *graph.Tensor) *graph.Tensor {
	x = convolution(b, x, "conv1.weight", n.Width, 3, 1)
	for stage := range 3 {
		for unit := range (n.Depth - 4) / 6 {
			stride := 1
			if stage > 0 && unit == 0 {
				stride = 2
			}
			x = wideBlock(b, x, fmt.Sprintf("block%d.layer.%d", stage+1, unit), n.Widen*n.Width<<stage, stride)
		}
	}
	return b.GlobalAveragePool(b.Relu(b.BatchNorm(x, "bn1")))
}

// wideBlock is two 3 by 3 convolutions, each behind batch normalisation and ReLU, beside a shortcut. Where the channels
// change, the shortcut is a 1 by 1 convolution of what the first convolution sees.
func wideBlock(b *graph.Builder, x *graph.Tensor, prefix string, out, stride int) *graph.Tensor {
	in := b.Relu(b.BatchNorm(x, prefix+".bn1"))
	y := convolution(b, in, prefix+".conv1.weight", out, 3, stride)
	y = b.Relu(b.BatchNorm(y, prefix+".bn2"))
	y = convolution(b, y, prefix+".conv2.weight", out, 3, 1)
	if x.Shape()[1] != out {
		x = convolution(b, in, prefix+".convShortcut.weight", out, 1, stride)
	}
	return b.Add(x, y)
}
