// Command generator compares the generator of this project with diffusers on PyTorch and with Optimum's ONNX pipeline:
// pictures per second of the same model, steps and guidance, all sides taking turns in one run, ours over real gRPC. It
// writes bench/results/generator.json.
//
//	make bench-generator
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/dreamood/dreamood/bench/record"
)

func main() {
	var b bench
	flag.StringVar(&b.python, "python", "python3", "Python with the packages of bench/generator/requirements.txt")
	flag.StringVar(&b.script, "peer", "bench/generator/peer.py", "the peers' script")
	flag.StringVar(&b.random, "random", ".cache/bench-generator/sd18m", "the folder that model.py made")
	flag.StringVar(&b.only, "only", "", "one model: reference or sd18m")
	flag.StringVar(&b.peers, "peers", "", "only the peers whose names contain this: diffusers or Optimum")
	pairs := flag.String("pairs", "", "write pairs of pictures of the reference model in fp32 and bf16 into this folder, and nothing else")
	flag.Parse()
	if err := run(b, *pairs); err != nil {
		fmt.Fprintln(os.Stderr, "bench-generator:", err)
		os.Exit(1)
	}
}

func run(b bench, pairs string) error {
	ctx := context.Background()
	if pairs != "" {
		return writePairs(ctx, pairs)
	}
	rs, err := b.compare(ctx)
	if err != nil {
		return err
	}
	record.Stamp(rs)
	name := "generator"
	if b.only != "" {
		name += "-" + b.only
	}
	path, err := record.Write("bench/results", name, rs)
	if err != nil {
		return err
	}
	fmt.Println()
	if err := record.Table(os.Stdout, rs); err != nil {
		return err
	}
	fmt.Println("\nwritten to", path)
	return nil
}
