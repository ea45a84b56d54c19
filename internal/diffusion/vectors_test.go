package diffusion

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// recorded is a float array as tools/vectors/diffusion.py writes it.
type recorded []float32

func (r *recorded) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	for ; len(raw) > 0; raw = raw[4:] {
		*r = append(*r, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	}
	return err
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// farthest returns the largest difference, relative where want is above 1.
func farthest(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range want {
		d := math.Abs(float64(got[i]-want[i])) / max(1, math.Abs(float64(want[i])))
		if !(d <= worst) {
			worst = d
		}
	}
	return worst
}
