package runs

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// difference is the path of the first field that is set in want and has another value in got, or "". What want leaves
// out may be anything: it was completed when the run was planned.
func difference(want, got protoreflect.Message) string {
	fields := want.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !want.Has(field) {
			continue
		}
		value, other := want.Get(field), got.Get(field)
		if field.Message() != nil && !field.IsList() && !field.IsMap() {
			if inner := difference(value.Message(), other.Message()); inner != "" {
				return field.TextName() + "." + inner
			}
		} else if !value.Equal(other) {
			return field.TextName()
		}
	}
	return ""
}

// compacted is JSON without white space, which its writer scatters at random.
func compacted(payload []byte) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, payload); err != nil {
		return payload // Submit says what is wrong with it
	}
	return out.Bytes()
}
