// Command table prints the records under bench/results.
package main

import (
	"fmt"
	"os"

	"github.com/dreamood/dreamood/bench/record"
)

func main() {
	rs, err := record.Read("bench/results")
	if err == nil {
		err = record.Table(os.Stdout, rs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}
