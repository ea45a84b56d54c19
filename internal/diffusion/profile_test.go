package diffusion

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/onnx"
)

// What was measured is used for the same model, provider and number of threads,
// and only where the configuration leaves it open.
func TestProfiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "profiles.json")
	measured := Config{ONNX: onnx.Config{Threads: 4}}
	if err := SaveProfile(path, tiny, measured, Profile{Lanes: 3, Batch: 5, Speed: 1}); err != nil {
		t.Fatal(err)
	}
	if err := SaveProfile(path, tiny, Config{ONNX: onnx.Config{Threads: 4, Provider: "openvino"}}, Profile{Lanes: 1, Batch: 9}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg          Config
		lanes, batch int
	}{
		{measured, 3, 5},
		{Config{ONNX: onnx.Config{Threads: 4, Provider: "cpu"}}, 3, 5},
		{Config{ONNX: onnx.Config{Threads: 4}, Batch: 2}, 3, 2},
		{Config{ONNX: onnx.Config{Threads: 4}, Lanes: 1}, 1, 5},
		{Config{ONNX: onnx.Config{Threads: 2}}, 0, 0},
		{Config{ONNX: onnx.Config{Threads: 4, Provider: "openvino"}}, 1, 9},
		{Config{ONNX: onnx.Config{Threads: 4, Provider: "openvino", Precision: "bf16"}}, 0, 0},
	} {
		c.cfg.Profiles = path
		got, err := c.cfg.tuned(tiny)
		if err != nil || got.Lanes != c.lanes || got.Batch != c.batch {
			t.Errorf("%+v: %d lanes, batch %d (%v), want %d and %d", c.cfg, got.Lanes, got.Batch, err, c.lanes, c.batch)
		}
	}
	p := openTiny(t, tiny, Config{ONNX: onnx.Config{Threads: 4}, Profiles: path})
	if p.Batch() != 5 || p.unet.lanes != 3 {
		t.Errorf("opened with %d lanes and a batch of %d", p.unet.lanes, p.Batch())
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(tiny, Config{Profiles: path}); err == nil || !strings.Contains(err.Error(), "bench generator") {
		t.Errorf("a broken file gave %v", err)
	}
}
