// Command sampler compares the low-likelihood sampler of this project with FAISS: the same work, noise included, both
// sides taking turns in one run. It writes bench/results/sampler.json.
//
//	make bench-sampler
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/dreamood/dreamood/bench/record"
)

func main() {
	python := flag.String("python", "python3", "Python with the packages of bench/sampler/requirements.txt")
	peer := flag.String("peer", "bench/sampler/peer.py", "the peer's script")
	rounds := flag.Int("rounds", 7, "rounds of each side for each comparison")
	worker := flag.Bool("worker", false, "answer questions on standard input (internal)")
	large := flag.Int("large", 0, "one class of so many points instead, such as 1000000 (12 GB of disk and memory)")
	bank := flag.String("bank", "", "also compare on this real bank, [N, D] or [classes, N, D] float32 (.npy; the first class)")
	flag.Parse()
	if err := run(*worker, *python, *peer, *rounds, *large, *bank); err != nil {
		fmt.Fprintln(os.Stderr, "bench-sampler:", err)
		os.Exit(1)
	}
}

func run(worker bool, python, peer string, rounds int, large int, bank string) error {
	if worker {
		return work(os.Stdin, os.Stdout)
	}
	folder, err := os.MkdirTemp("", "bench-sampler")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b := bench{folder: folder, python: python, peer: peer, real: bank, rounds: rounds, rows: large}
	name, do := "sampler", b.compare
	if large > 0 {
		name, do = "sampler-large", b.large
	}
	rs, err := do()
	if err != nil {
		return err
	}
	record.Stamp(rs)
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
