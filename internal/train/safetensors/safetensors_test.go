package safetensors

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	want := File{
		Tensors: map[string]Tensor{
			"b":      {Shape: []int{2, 2}, Data: []float32{1, -2, 3.5, 0}},
			"a":      {Shape: []int{3}, Data: []float32{7, 8, 9}},
			"scalar": {Shape: []int{}, Data: []float32{4}},
		},
		Metadata: map[string]string{"step": "3"},
	}
	var buf bytes.Buffer
	if err := Write(&buf, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestReadRefusesDamage(t *testing.T) {
	file := func(header string, values int) []byte {
		b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(b, header...), make([]byte, values)...)
	}
	for want, raw := range map[string][]byte{
		"EOF":                    {1, 2},
		"the limit is":           binary.LittleEndian.AppendUint64(nil, 1<<40),
		"header":                 file(`{"a":`, 0),
		"cut short":              file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4),
		"type F64, want F32":     file(`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`, 8),
		"shape [3] with 8 bytes": file(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8),
		"shape [-1]":             file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}`, 8),
		"values at 8 to 0":       file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,0]}}`, 8),
		"shape [4294967296 4294967296 4294967296]": file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}`, 0),
	} {
		if _, err := Read(bytes.NewReader(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestWriteRefusesWrongShapes(t *testing.T) {
	err := Write(&bytes.Buffer{}, File{Tensors: map[string]Tensor{"a": {Shape: []int{2}, Data: []float32{1}}}})
	if err == nil {
		t.Error("a tensor of shape [2] with one value was written")
	}
}
