package method

import "fmt"

// head is what the head that was trained with outliers says: the logit of ID minus that of outlier, φ of the energy
// (Du et al., NeurIPS 2023, eq. 7).
func head() Method {
	return Method{Name: Head, Source: "Du et al., NeurIPS 2023", fit: func(*fitting, Options) (fitted, error) {
		return fitted{emit: func(_ *emitter, in inputs) string { return in.head }}, nil
	}}
}

// noHead says why there is no such score.
func noHead() error {
	return fmt.Errorf("%w: it was trained without a head that tells ID from outliers", ErrUnfit)
}
