package npy

import (
	"encoding/binary"
	"fmt"
	"strconv"
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
	text := fmt.Sprintf("{'descr': [%s], 'fortran_order': False, 'shape': (%d,), }", strings.Join(columns, ", "), n)
	text += strings.Repeat(" ", max(0, 21-len(strconv.Itoa(n))))
	text += strings.Repeat(" ", 64-(len(magic)+4+len(text)+1)%64) + "\n"
	b := binary.LittleEndian.AppendUint16([]byte(magic+"\x01\x00"), uint16(len(text)))
	return append(b, text...)
}

// LabelsHeader is the header of a file of n labels, "<i4", that [ReadLabels] reads. The labels follow one after another.
func LabelsHeader(n int) []byte {
	b, err := headerOf("<i4", []int{n})
	if err != nil {
		panic(err) // a negative n
	}
	return b
}
