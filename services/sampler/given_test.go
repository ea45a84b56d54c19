package sampler

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/simd"
)

// Noise brought along that equals what would be drawn gives the same samples.
func TestNoiseBroughtAlong(t *testing.T) {
	p := Params{K: 5, Select: 8, Pick: 3, Noises: 20, Sigma: 0.3, Keep: 2, Seed: 4}
	bank := testBank(30, 9)
	drawn := matrix.New(3*p.Noises, 9)
	for round := range 3 {
		philox.Normals(drawn.Data[round*p.Noises*9:(round+1)*p.Noises*9], philox.Key{Seed: 4, Purpose: "sampler.noise", Class: 2, Index: uint64(round)})
	}
	s, err := KNN{}.Prepare(t.Context(), Input{Bank: bank, Noise: drawn}, p)
	if err != nil {
		t.Fatal(err)
	}
	want := collect(t, mustPrepare(t, KNN{}, bank, p), Range{Class: 2, Count: 18})
	for i, o := range collect(t, s, Range{Class: 2, Count: 18}) {
		if !equal(o, want[i]) || !slices.Equal(o.Embedding, want[i].Embedding) {
			t.Errorf("sample %d: %+v, want %+v", i, o, want[i])
		}
	}
	never := func(Outlier) error { t.Error("a sample"); return nil }
	err = s.Sample(t.Context(), Range{Offset: 17, Count: 2}, never)
	if err == nil || !strings.Contains(err.Error(), "it has 3 rounds of 6 samples, 18 in all") {
		t.Errorf("a range beyond the noise: %v", err)
	}
}

func TestBadNoise(t *testing.T) {
	p := Params{K: 1, Select: 3, Pick: 1, Noises: 2, Sigma: 1, Keep: 1}
	bank := matrix.Matrix{Rows: 3, Cols: 2, Data: []float32{1, 0, 0, 1, 0.6, 0.8}}
	for _, c := range []struct {
		noise matrix.Matrix
		want  string
	}{
		{matrix.New(3, 2), "noise: has shape [3, 2]; with 2 noises per round and a bank of 2 dimensions it must be [rounds·2, 2]"},
		{matrix.New(2, 3), "noise: has shape [2, 3]"},
		{matrix.Matrix{Rows: 2, Cols: 2, Data: make([]float32, 3)}, "noise: 3 values for shape [2, 2]"},
		{matrix.Matrix{Rows: 2, Cols: 2, Data: []float32{1, 2, float32(math.Inf(1)), 3}}, "noise: row 1, column 0 is +Inf"},
		{matrix.Matrix{Rows: 2, Cols: 2, Data: []float32{1, 2, 3, -2e6}}, "noise: row 1, column 1 is -2e+06"},
	} {
		if _, err := (KNN{}).Prepare(t.Context(), Input{Bank: bank, Noise: c.noise}, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	// Noise that cancels the rows it is added to leaves no direction.
	p.Keep, p.Pick = 2, 3
	s, err := KNN{}.Prepare(t.Context(), Input{Bank: bank, Noise: matrix.Matrix{Rows: 2, Cols: 2, Data: []float32{-1, 0, 0, 0}}}, p)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Sample(t.Context(), Range{Count: 6}, func(Outlier) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "round 0: noise 0 times sigma cancels row 0 of the bank") {
		t.Errorf("cancelled row: %v", err)
	}
}

// digest is a hash of everything that samplers of both modes and directions say.
func digest(t *testing.T) string {
	h := sha256.New()
	for _, mode := range []string{ModePaper, ModeReference} {
		for _, m := range []Method{KNN{}, Inlier{}} {
			p := Params{K: 90, Select: 40, Pick: 9, Noises: 130, Sigma: 0.07, Keep: 2, Seed: 5, Mode: mode}
			s := mustPrepare(t, m, testBank(150, PaperDim), p)
			for _, d := range s.Boundary().KthDistances {
				binary.Write(h, binary.LittleEndian, d)
			}
			for _, o := range collect(t, s, Range{Count: 2*18 + 5}) {
				fmt.Fprint(h, o.Round, o.Source, o.NoiseIndex, o.Rank, o.KthDistance, o.CosineToSource)
				binary.Write(h, binary.LittleEndian, o.Embedding)
			}
		}
	}
	return fmt.Sprintf("digest %x", h.Sum(nil))
}

// recordedDigest is what every CPU gives.
const recordedDigest = "digest 281e1d4012de69885b8aa57015cd1993f0138e1f05667ab60a632bea594242ed"

// The samples have the same bits at every level of instructions that this CPU has,
// and those that other architectures have. Where an emulator runs the test it can
// start no other process: name the levels in DREAMOOD_SIMD, one by one.
func TestLevelsAgree(t *testing.T) {
	const child = "SAMPLER_TEST_DIGEST"
	want := digest(t)
	if os.Getenv(child) != "" {
		fmt.Println(want)
		return
	}
	if want != recordedDigest {
		t.Errorf("%s: %s, want %s", simd.Level(), want, recordedDigest)
	}
	for _, level := range simd.Levels() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLevelsAgree$")
		cmd.Env = append(os.Environ(), child+"=1", simd.Variable+"="+level.String())
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Logf("only %s was checked: %v", simd.Level(), err)
			break
		}
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s, error %v; want %s", level, out, err, want)
		}
	}
	t.Logf("%v: %s", simd.Levels(), want)
}
