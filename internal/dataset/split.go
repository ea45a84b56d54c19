package dataset

import (
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/philox"
)

// Split holds out a share of every class, 0 < fraction < 1: it returns the rest
// and the held-out part, disjoint, both in the order of d. Of each class
// round(fraction·n) pictures are held out, at least one and at most n-1; a
// class of one picture cannot be split. The same seed gives the same split, and
// that of one class does not depend on the others.
func Split(d *Dataset, fraction float64, seed uint64) (rest, held *Dataset, err error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("split dataset %s: fraction is %v; want more than 0 and less than 1", d.Name, fraction)
	}
	var keep, out []int
	for label, class := range d.Classes {
		at := d.Indices(int32(label))
		n := len(at)
		switch n {
		case 0:
			continue
		case 1:
			return nil, nil, fmt.Errorf("split dataset %s: class %s has one picture; add pictures, or leave the class out", d.Name, class)
		}
		k := min(max(int(math.Round(fraction*float64(n))), 1), n-1)
		for i, j := range philox.Perm(n, philox.Key{Seed: seed, Purpose: "dataset.split." + class}) {
			if i < k {
				out = append(out, at[j])
			} else {
				keep = append(keep, at[j])
			}
		}
	}
	slices.Sort(keep)
	slices.Sort(out)
	return d.Subset(keep), d.Subset(out), nil
}
