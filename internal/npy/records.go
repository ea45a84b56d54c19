package npy

import (
	"fmt"
	"strings"
)

// Field is a column of a structured array: its name, and its type as NumPy calls it, "<i4" or "<f4".
type Field struct{ Name, Type string }

// RecordHeader is the header of a file [n] of records with the given fields, byte for byte as np.save makes it. The
// records follow one after another, without padding.
func RecordHeader(fields []Field, n int) []byte {
	columns := make([]string, len(fields))
	for i, f := range fields {
		columns[i] = fmt.Sprintf("('%s', '%s')", f.Name, f.Type)
	}
	return vectorHeader("["+strings.Join(columns, ", ")+"]", n)
}

// LabelsHeader is the header of a file of n labels, "<i4", that [ReadLabels] reads. The labels follow one after another.
func LabelsHeader(n int) []byte { return vectorHeader("'<i4'", n) }

// vectorHeader is headerOf one axis.
func vectorHeader(descr string, n int) []byte {
	b, err := headerOf(descr, []int{n})
	if err != nil {
		panic(err) // a negative n, or more fields than a header holds
	}
	return b
}
