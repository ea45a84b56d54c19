package sampler

import (
	"fmt"

	"github.com/dreamood/dreamood/internal/matrix"
)

// checks collects what is wrong with the input and the parameters of a method
// that uses only some of the fields of [Params].
type checks struct{ found Problems }

// newChecks begins with what all methods on a [classBank] need: two rows, K and
// Select within the bank, and the mode that the paper describes.
func newChecks(bank matrix.Matrix, p Params) *checks {
	c := &checks{}
	n := bank.Rows
	c.that(n >= 2 && bank.Cols >= 1, "bank", "has shape [%d, %d]; a class needs at least 2 embeddings: train the space with more pictures of it", n, bank.Cols)
	c.that(p.K >= 1 && p.K <= max(1, n), "k", "is %d, and the bank of this class has %d embeddings; k must be at least 1 and at most as many", p.K, n)
	c.that(p.Select >= 1 && p.Select <= max(1, n), "select", "is %d, and the bank of this class has %d embeddings; select must be at least 1 and at most as many", p.Select, n)
	c.that(p.Mode == "" || p.Mode == ModePaper, "mode", "is %q; there is %q", p.Mode, ModePaper)
	return c
}

// that reports a problem with a field unless ok.
func (c *checks) that(ok bool, field, format string, args ...any) {
	if !ok {
		c.found = append(c.found, Problem{field, fmt.Sprintf(format, args...)})
	}
}

// err is everything found, as [Problems], or nil.
func (c *checks) err() error {
	if c.found == nil {
		return nil
	}
	return c.found
}
