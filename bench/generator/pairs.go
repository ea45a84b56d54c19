package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/philox"
)

// classes are those of CIFAR-10 in their order.
var classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

const pairsPerClass = 20

// writePairs renders the same pictures of the reference model in float32 on the CPU provider and in other ways, as raw
// RGB, for judge.py.
func writePairs(ctx context.Context, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var items []diffusion.Item
	for label, class := range classes {
		for i := range pairsPerClass {
			items = append(items, diffusion.Item{Prompt: "A high-quality image of the " + class, Key: philox.Key{Seed: 1, Class: uint32(label), Index: uint64(i)}})
		}
	}
	for _, way := range []struct {
		name string
		cfg  diffusion.Config
	}{
		{"fp32", diffusion.Config{}},
		{"bf16-openvino", diffusion.Config{ONNX: onnx.Config{Provider: "openvino", Precision: "bf16"}}},
	} {
		name := way.name
		p, err := diffusion.Open("models/reference", way.cfg)
		if err != nil {
			return err
		}
		images, err := p.Render(ctx, items, diffusion.Options{Steps: 20, Guidance: 3})
		if err != nil {
			return err
		}
		if err := p.Close(); err != nil {
			return err
		}
		var raw []byte
		for _, m := range images {
			raw = append(raw, m.Pix...)
		}
		if err := os.WriteFile(filepath.Join(folder, name+".rgb"), raw, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d pictures of %d by %d\n", name, len(images), images[0].Height, images[0].Width)
	}
	return nil
}
