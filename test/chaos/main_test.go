// Package chaos kills, stops, cuts off and starves real processes of the run system and then looks whether its promise
// held (docs/runs.md): nothing accepted is lost, every run ends once, every shard's result is committed once.
//
// The processes are this test's own program, started again with a role (actor_test.go): workers, a client, and the
// stock NATS server. They report in lines on their standard output and can be told to stand still at a point between
// two steps of the protocol (runs.Points), where they are killed with SIGKILL.
//
//	world_test.go    one world: a NATS server, its processes, and the questions asked at the end
//	script_test.go   what the client wants, and what must come of it
//	kills_test.go    every point × every victim × seeds
//
// `make test` runs a short version, `make chaos` the whole and writes its figures down, `make soak` half an hour.
package chaos

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	role := os.Getenv("CHAOS_ROLE")
	if role == "" {
		if flag.Parse(); !full() { // worlds wait more than they compute
			_ = flag.Set("test.parallel", "6") // the flag is there
		}
		goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
			if path := os.Getenv("DREAMOOD_CHAOS"); strings.HasSuffix(path, ".json") {
				var err error
				if flag.Lookup("test.run").Value.String() == "" { // all of it
					err = records.complete()
				}
				if err = errors.Join(err, records.write(path)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					code = 1
				}
			}
			os.Exit(code)
		}))
		return
	}
	if err := act(role); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// seeds is how often each kill is made, every time with other kills besides.
func seeds() int {
	if n, err := strconv.Atoi(os.Getenv("DREAMOOD_CHAOS_SEEDS")); err == nil {
		return n
	}
	return 3
}

// full says that this is `make chaos`: everything, in several seeds. DREAMOOD_CHAOS names the file of the record.
func full() bool { return os.Getenv("DREAMOOD_CHAOS") != "" }
