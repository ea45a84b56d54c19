package diffusion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Profile is how a model runs fastest on a machine, as `dreamood bench
// generator` measured it. It holds nothing that pictures depend on.
type Profile struct {
	UNet     int64     `json:"unet_bytes"` // of unet/model.onnx: another file is another model
	Threads  int       `json:"threads"`    // of all lanes, as it was measured
	Lanes    int       `json:"lanes"`
	Batch    int       `json:"batch"` // pictures
	Speed    float64   `json:"pictures_per_second"`
	Measured time.Time `json:"measured"`
}

// profileKey names a model on a provider.
func profileKey(dir, provider, precision string) string {
	if provider == "" {
		provider = "cpu"
	}
	if precision == "" {
		precision = "fp32"
	}
	return filepath.Base(filepath.Clean(dir)) + " " + provider + " " + precision
}

// readProfiles reads a file of them; none is no error.
func readProfiles(path string) (map[string]Profile, error) {
	all := map[string]Profile{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("profiles of the generator %s: %w; measure again with dreamood bench generator, or remove the file", path, err)
	}
	return all, nil
}

// SaveProfile adds what was measured for the model in dir to a file.
func SaveProfile(path, dir string, cfg Config, p Profile) error {
	all, err := readProfiles(path)
	if err != nil {
		all = map[string]Profile{}
	}
	info, err := os.Stat(filepath.Join(dir, "unet", "model.onnx"))
	if err != nil {
		return err
	}
	p.UNet, p.Threads = info.Size(), allThreads(cfg.ONNX.Threads)
	all[profileKey(dir, cfg.ONNX.Provider, cfg.ONNX.Precision)] = p
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// tuned fills lanes and batch, where the configuration leaves them open, with
// what was measured for this model and as many threads.
func (c Config) tuned(dir string) (Config, error) {
	if c.Profiles == "" || c.Lanes != 0 && c.Batch != 0 {
		return c, nil
	}
	all, err := readProfiles(c.Profiles)
	if err != nil {
		return c, err
	}
	p, known := all[profileKey(dir, c.ONNX.Provider, c.ONNX.Precision)]
	info, err := os.Stat(filepath.Join(dir, "unet", "model.onnx"))
	if err != nil || !known || p.UNet != info.Size() || p.Threads != allThreads(c.ONNX.Threads) || p.Lanes < 1 || p.Lanes > p.Threads || p.Batch < 1 || p.Batch > maxProfileBatch {
		return c, nil //nolint:nilerr // a model without a U-Net is reported when it is opened
	}
	if c.Lanes == 0 {
		c.Lanes = p.Lanes
	}
	if c.Batch == 0 {
		c.Batch = p.Batch
	}
	return c, nil
}

const maxProfileBatch = 256

func allThreads(n int) int {
	if n == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return n
}

// defaultLanes is two on a CPU with threads for it: the rows with and without
// the prompt are computed side by side, each without waiting for the other at
// every operator. Other providers divide a run better themselves.
func (c Config) defaultLanes() int {
	if (c.ONNX.Provider == "" || c.ONNX.Provider == "cpu") && allThreads(c.ONNX.Threads) >= 2 {
		return 2
	}
	return 1
}
