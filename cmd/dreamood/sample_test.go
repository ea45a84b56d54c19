package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/philox"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// by hand: three classes of 60 embeddings in 24 dimensions, their anchors, and noise for two rounds of 30 candidates.
const handClasses, handRows, handDim, handNoises = 3, 60, 24, 30

// byHand is a folder with what sample reads, and the arrays in it.
type byHand struct {
	dir                  string
	bank, anchors, noise []float32
}

func newByHand(t *testing.T) *byHand {
	t.Helper()
	h := &byHand{dir: t.TempDir(), bank: make([]float32, handClasses*handRows*handDim), anchors: make([]float32, handClasses*handDim),
		noise: make([]float32, 2*handNoises*handDim)}
	philox.Normals(h.bank, philox.Key{Seed: 1})
	philox.Normals(h.anchors, philox.Key{Seed: 2})
	philox.Normals(h.noise, philox.Key{Seed: 3})
	for i := range h.bank {
		class := i / (handRows * handDim)
		h.bank[i] = 0.5*h.bank[i] + h.anchors[class*handDim+i%handDim]
	}
	h.save(t, "bank.npy", h.bank, handClasses, handRows, handDim)
	h.save(t, "anchors.npy", h.anchors, handClasses, handDim)
	h.save(t, "noise.npy", h.noise, 2, handNoises, handDim)
	return h
}

func (h *byHand) path(name string) string { return filepath.Join(h.dir, name) }

func (h *byHand) save(t *testing.T, name string, values []float32, shape ...int) string {
	t.Helper()
	f, err := os.Create(h.path(name))
	if err == nil {
		err = npy.Write(f, values, shape...)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return h.path(name)
}

func (h *byHand) load(t *testing.T, name string) ([]float32, []int) {
	t.Helper()
	f, err := os.Open(h.path(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values, shape, err := npy.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return values, shape
}

// sample types the command with the bank, and settings that are quick; what comes later wins.
func (h *byHand) sample(t *testing.T, args ...string) result {
	t.Helper()
	return (&fake{}).typed(t, append([]string{"sample", "--bank", h.path("bank.npy"), "--out", h.path("out.npy"), "--k", "20", "--select", "10",
		"--pick", "6", "--noises", "30", "--keep", "2", "--sigma", "0.2"}, args...)...)
}

func unit(v []float32) []float64 {
	out, square := make([]float64, len(v)), 0.0
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	for i, x := range v {
		out[i] = float64(x) / math.Sqrt(square)
	}
	return out
}

// kth is the K-th smallest squared distance of q to the unit rows of a class.
func (h *byHand) kth(class, k int, q []float64) float64 {
	var all []float64
	for i := range handRows {
		d := 0.0
		for j, v := range unit(h.row(class, i)) {
			d += (v - q[j]) * (v - q[j])
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return all[k-1]
}

func (h *byHand) row(class, i int) []float32 {
	at := (class*handRows + i) * handDim
	return h.bank[at : at+handDim]
}

type handPick struct {
	Class, Index, Round, Noise, Source, Rank int
	Distance                                 float64 `json:"kth_distance"`
}

// TestSampleAgainstTheDefinition brings the noise along, and rebuilds every sample and every choice from the files: the
// slow way, all candidates, all distances.
func TestSampleAgainstTheDefinition(t *testing.T) {
	h := newByHand(t)
	h.sample(t, "--anchors", h.path("anchors.npy"), "--noise", h.path("noise.npy"), "--rounds", "2", "--picks", h.path("picks.json")).
		wants(t, exitOK, "3 × 24 samples of 24 dimensions")
	values, shape := h.load(t, "out.npy")
	raw, err := os.ReadFile(h.path("picks.json"))
	var picks []handPick
	if err == nil {
		err = json.Unmarshal(raw, &picks)
	}
	if err != nil || len(picks) != 72 || !slices.Equal(shape, []int{3, 24, 24}) {
		t.Fatalf("%d picks, shape %v, %v", len(picks), shape, err)
	}
	for i, p := range picks {
		if p.Class != i/24 || p.Index != i%24 || p.Round != p.Index/12 || p.Rank != i%2 {
			t.Fatalf("pick %d is %+v", i, p)
		}
		candidate := func(noise int) []float64 {
			sum, at := make([]float32, handDim), (p.Round*handNoises+noise)*handDim
			for j, v := range unit(h.row(p.Class, p.Source)) {
				sum[j] = float32(v) + 0.2*h.noise[at+j]
			}
			return unit(sum)
		}
		var order []int
		distance := map[int]float64{}
		for g := range handNoises {
			order = append(order, g)
			distance[g] = h.kth(p.Class, 20, candidate(g))
		}
		slices.SortFunc(order, func(a, b int) int { return int(math.Copysign(1, distance[b]-distance[a])) })
		if order[p.Rank] != p.Noise || math.Abs(distance[p.Noise]-p.Distance) > 1e-5 {
			t.Errorf("pick %+v: the candidates in order are %v, at %v", p, order[:3], distance[p.Noise])
		}
		norm := 0.0
		for _, v := range h.anchors[p.Class*handDim : (p.Class+1)*handDim] {
			norm += float64(v) * float64(v)
		}
		for j, want := range candidate(p.Noise) {
			if got := float64(values[i*handDim+j]); math.Abs(got-want*math.Sqrt(norm)) > 1e-5 {
				t.Fatalf("sample %d has %v in column %d, want %v", i, got, j, want*math.Sqrt(norm))
			}
		}
	}
}

// TestSampleIsTheSame for some classes and counts as for all, and for a second time.
func TestSampleIsTheSame(t *testing.T) {
	h := newByHand(t)
	h.sample(t, "--rounds", "2", "--seed", "7").wants(t, exitOK)
	all, _ := h.load(t, "out.npy")
	h.sample(t, "--rounds", "2", "--seed", "7").wants(t, exitOK)
	if again, _ := h.load(t, "out.npy"); !slices.Equal(again, all) {
		t.Error("the second time the samples differ")
	}
	h.sample(t, "--count", "5", "--seed", "7", "--class", "2", "--class", "0").wants(t, exitOK, "2 × 5 samples")
	some, shape := h.load(t, "out.npy")
	if want := slices.Concat(all[48*handDim:53*handDim], all[:5*handDim]); !slices.Equal(shape, []int{2, 5, 24}) || !slices.Equal(some, want) {
		t.Errorf("classes 2 and 0 alone differ from the same classes of all")
	}
	h.sample(t, "--rounds", "2", "--seed", "8").wants(t, exitOK)
	if other, _ := h.load(t, "out.npy"); slices.Equal(other, all) {
		t.Error("another seed gives the same samples")
	}
	// The rows of all classes in any order, with labels, are the same bank.
	var rows []float32
	labels := make([]byte, 0, handClasses*handRows)
	for i := range handRows {
		for class := range handClasses {
			rows, labels = append(rows, h.row(class, i)...), append(labels, byte(class))
		}
	}
	h.save(t, "rows.npy", rows, handClasses*handRows, handDim)
	head := "{'descr': '|u1', 'fortran_order': False, 'shape': (180,), }"
	head += strings.Repeat(" ", 117-len(head)) + "\n"
	if err := os.WriteFile(h.path("labels.npy"), append([]byte("\x93NUMPY\x01\x00\x76\x00"+head), labels...), 0o644); err != nil {
		t.Fatal(err)
	}
	h.sample(t, "--bank", h.path("rows.npy"), "--labels", h.path("labels.npy"), "--rounds", "2", "--seed", "7").wants(t, exitOK)
	if labelled, _ := h.load(t, "out.npy"); !slices.Equal(labelled, all) {
		t.Error("the same rows with labels give other samples")
	}
}

func TestSampleReportsAndDraws(t *testing.T) {
	h := newByHand(t)
	r := h.sample(t, "--anchors", h.path("anchors.npy"), "--report", h.path("new/report.json"), "--map", h.path("map.svg"), "--map-by", "pca", "--output", "json")
	r.wants(t, exitOK)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var file struct {
		Shape   []int
		Classes []json.RawMessage
	}
	raw, err := os.ReadFile(h.path("new/report.json"))
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil || len(lines) != 3 || len(file.Classes) != 3 || !slices.Equal(file.Shape, []int{3, 12, 24}) {
		t.Fatalf("%v; shape %v, %d classes, %d lines", err, file.Shape, len(file.Classes), len(lines))
	}
	for class, line := range lines {
		var report, printed samplerv1.SamplingReport
		if err := protojson.Unmarshal(file.Classes[class], &report); err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal([]byte(line), &printed); err != nil {
			t.Fatal(err)
		}
		if report.String() != printed.String() || report.Class != fmt.Sprint(class) || report.Samples != 12 || report.ForeignSamples != 12 || report.Sources != 6 ||
			report.BankSize != handRows || report.BoundarySize != 10 || report.Sampling.K != 20 || len(report.SampleQuantiles) != 7 || report.MeanAnchorCosine == 0 {
			t.Errorf("class %d: %v", class, &report)
		}
	}
	drawn, err := os.Open(h.path("map.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer drawn.Close()
	circles := 0
	for d := xml.NewDecoder(drawn); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != handClasses*handRows+1 {
		t.Errorf("%d dots on the map", circles)
	}
}

func TestSampleTunesSigma(t *testing.T) {
	h := newByHand(t)
	r := h.sample(t, "--tune", "distance=1.1", "--count", "40", "--class", "1", "--report", h.path("r.json"))
	r.wants(t, exitOK, "SIGMA", "meets distance=1.1")
	raw, err := os.ReadFile(h.path("r.json"))
	var file struct {
		Tuning struct {
			Sigma  float64
			Trials []struct{ Sigma float64 }
		}
		Classes []struct {
			SampleQuantiles []float64
			Sampling        struct{ Sigma float64 }
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil || len(file.Tuning.Trials) < 10 || file.Classes[0].Sampling.Sigma != file.Tuning.Sigma || math.Abs(file.Classes[0].SampleQuantiles[3]-1.1) > 2e-3 {
		t.Errorf("%v: %s", err, raw)
	}
}

// TestSampleRefuses what cannot work: it names the flag, the file and what would do, and leaves nothing behind.
func TestSampleRefuses(t *testing.T) {
	h := newByHand(t)
	changed := func(name string, at int, v float32) string {
		bank := slices.Clone(h.bank)
		for j := range handDim {
			if v != 0 && j > 0 {
				break
			}
			bank[at*handDim+j] = v
		}
		return h.save(t, name, bank, handClasses, handRows, handDim)
	}
	zero, nan := changed("zero.npy", 65, 0), changed("nan.npy", 7, float32(math.NaN()))
	narrow := h.save(t, "narrow.npy", h.anchors, 6, 12)
	line := h.save(t, "line.npy", h.anchors, len(h.anchors))
	rows := h.save(t, "few.npy", h.bank[:30*handDim], 30, handDim)
	before, _ := os.ReadDir(h.dir)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--k", "61"}, []string{"  --k: is 61", "60 embeddings", "at most 60"}},
		{[]string{"--bank", rows, "--k", "40"}, []string{"  --k: is 40", "at most 30"}},
		{[]string{"--sigma=-1", "--select", "99"}, []string{"  --sigma: is -1", "  --select: is 99"}},
		{[]string{"--count", "2000000"}, []string{"  --count: 2000000; want 1 to 1000000"}},
		{[]string{"--count", "5", "--rounds", "2"}, []string{"  --count: and --rounds"}},
		{[]string{"--rounds", "900000"}, []string{"  --rounds: 900000 rounds of 12"}},
		{[]string{"--class", "3"}, []string{"  --class: there is no class 3", "classes 0 to 2"}},
		{[]string{"--bank", zero}, []string{"  --bank: " + zero + ", class 1: row 5 is zero"}},
		{[]string{"--bank", nan}, []string{"  --bank: " + nan + ", class 0: row 7, column 0 is NaN"}},
		{[]string{"--bank", line}, []string{"  --bank: " + line + " has shape [72]; want [classes, n, D]"}},
		{[]string{"--bank", h.path("none.npy")}, []string{"  --bank: ", "none.npy", "no such file"}},
		{[]string{"--anchors", narrow}, []string{"  --anchors: " + narrow + " has shape [6 12]; want [3, 24]"}},
		{[]string{"--anchors", h.path("bank.npy")}, []string{"the file of --bank too"}},
		{[]string{"--out", h.path("bank.npy")}, []string{"  --out: ", "the file of --bank too"}},
		{[]string{"--noise", narrow}, []string{"  --noise: " + narrow + " has shape [1 6 12]; want [rounds, candidates, 24]"}},
		{[]string{"--noise", h.path("noise.npy"), "--noises", "20"}, []string{"  --noises: is 20", "30 candidates"}},
		{[]string{"--noise", h.path("noise.npy"), "--rounds", "3"}, []string{"  --noise: ", "lower --count to 24"}},
		{[]string{"--tune", "2"}, []string{"  --tune: \"2\" is out of range"}},
		{[]string{"--tune", "0.1"}, []string{"  --tune: no sigma", "start at the boundary"}},
		{[]string{"--tune", "cosine=0.3"}, []string{"  --tune: ", "give the anchors with --anchors"}},
		{[]string{"--method", "magic"}, []string{"  --method: no method \"magic\"; there are knn"}},
		{[]string{"--mode", "dreamt"}, []string{"  --mode: is \"dreamt\""}},
		{[]string{"--labels", h.path("anchors.npy")}, []string{"  --labels: ", "a row of classes already"}},
		{[]string{"--bank", rows, "--labels", h.path("anchors.npy")}, []string{"  --labels: ", "anchors.npy: npy: an array of <f4"}},
		{[]string{"--map", h.path("m.svg"), "--map-by", "umap"}, []string{"--map-by"}},
	} {
		r := h.sample(t, c.args...)
		r.wants(t, exitUsage, c.want...)
		if after, _ := os.ReadDir(h.dir); len(after) != len(before) || r.out != "" {
			t.Fatalf("%v left %d files of %d, stdout %q", c.args, len(after), len(before), r.out)
		}
	}
}
