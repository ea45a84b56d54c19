// Package record is the form in which every benchmark of this project keeps what it found: both sides, measured in one
// run on the same work, and their ratio.
package record

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Record is one comparison. Ratio is greater than 1 where ours is better.
type Record struct {
	Name     string  `json:"name"`    // benchmark and case, unique
	Setting  string  `json:"setting"` // shapes and parameters
	Unit     string  `json:"unit"`    // of Ours and Peer
	Ours     float64 `json:"ours"`
	Peer     float64 `json:"peer"`
	PeerName string  `json:"peer_name"`
	Ratio    float64 `json:"ratio"`
	Runs     int     `json:"runs"` // of each side, in turn; Ours and Peer are medians
	Note     string  `json:"note,omitempty"`
	Date     string  `json:"date"` // UTC
	CPU      string  `json:"cpu"`
	Commit   string  `json:"commit"`
}

// Stamp fills what is the same for all records of a run.
func Stamp(rs []Record) {
	cpu, commit, date := cpuName(), commitName(), time.Now().UTC().Format(time.DateOnly)
	for i := range rs {
		rs[i].CPU, rs[i].Commit, rs[i].Date = cpu, commit, date
	}
}

// Write stores records as indented JSON in folder/name.json, whole or not at all.
func Write(folder, name string, rs []Record) (string, error) {
	data, err := json.MarshalIndent(rs, "", " ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(folder, name+".json")
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err != nil {
		return "", err
	}
	return path, os.Rename(path+".tmp", path)
}

// Read loads every record of a folder, in order of the file names.
func Read(folder string) ([]Record, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []Record
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var rs []Record
		if err := json.Unmarshal(data, &rs); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// Table prints records for people.
func Table(w io.Writer, rs []Record) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "benchmark\tours\tpeer\tunit\tratio\tagainst\tsetting")
	for _, r := range rs {
		fmt.Fprintf(t, "%s\t%.4g\t%.4g\t%s\t%.3g\t%s\t%s\n", r.Name, r.Ours, r.Peer, r.Unit, r.Ratio, r.PeerName, r.Setting)
	}
	return t.Flush()
}

// Median of values, which it sorts.
func Median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func cpuName() string {
	name := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d threads", name, runtime.GOMAXPROCS(0))
}

func commitName() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
