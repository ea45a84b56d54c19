package dataset

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestShippedSample checks the archives of sample/: what README.md there says
// of them, that every picture decodes, and that they stay small.
func TestShippedSample(t *testing.T) {
	const folder = "../../sample"
	cases := []struct {
		file          string
		classes, each int // each = 0: two or three
		pictures      int
		format, class string // of the pictures; one of the classes
	}{
		{"cifar10_train.tar.gz", 10, 300, 3000, "jpeg", "airplane"},
		{"cifar10_test.zip", 10, 50, 500, "png", "truck"},
		{"ood_cifar100.zip", 100, 0, 250, "png", "willow_tree"},
		{"ood_textures.zip", 10, 20, 200, "png", "bubbly"},
	}
	total := int64(0)
	for _, c := range cases {
		file := filepath.Join(folder, c.file)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
		report, err := Check(t.Context(), file, Options{})
		if err != nil || report.Err() != nil {
			t.Fatal(err, report.Err())
		}
		if len(report.Classes) != c.classes || report.Formats[c.format] != c.pictures || report.MinSide != 32 || report.MaxSide != 32 {
			t.Errorf("%s: %+v", c.file, report)
		}
		d, err := Open(t.Context(), file, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Len() != c.pictures || d.Alpha != 0 || d.Resized != 0 {
			t.Errorf("%s: %d pictures, %d with alpha, %d resized", c.file, d.Len(), d.Alpha, d.Resized)
		}
		if c.file == "cifar10_train.tar.gz" {
			requireCIFAR(t, d)
		}
		if !slices.Contains(d.Classes, c.class) {
			t.Errorf("%s has no class %s", c.file, c.class)
		}
		for i, n := range d.Counts() {
			if n != c.each && (c.each != 0 || n < 2 || n > 3) {
				t.Errorf("%s: %d pictures of %s", c.file, n, d.Classes[i])
			}
		}
	}
	if total > 4_800_000 {
		t.Errorf("the sample takes %d bytes; at most 4,800,000 may be shipped", total)
	}
}

// requireCIFAR compares the training sample with the published statistics of
// the 50,000 pictures it is drawn from. The mean of 3,000 pictures has a
// standard error of 0.13/sqrt(3000) = 0.0024 (0.13 is the deviation of the mean
// brightness of a picture); 4 of these are 0.01.
func requireCIFAR(t *testing.T, d *Dataset) {
	t.Helper()
	mean, std := d.MeanStd()
	for c, want := range [][2]float64{{0.4914, 0.2470}, {0.4822, 0.2435}, {0.4465, 0.2616}} {
		if math.Abs(mean[c]-want[0]) > 0.01 || math.Abs(std[c]-want[1]) > 0.01 {
			t.Errorf("channel %d: %.4f ± %.4f, want %.4f ± %.4f", c, mean[c], std[c], want[0], want[1])
		}
	}
}

// TestFullArchive reads one of the full archives that the sample is made from,
// where DREAMOOD_TEST_DATA names their folder.
func TestFullArchive(t *testing.T) {
	data := os.Getenv("DREAMOOD_TEST_DATA")
	if data == "" {
		t.Skip("DREAMOOD_TEST_DATA does not name the folder of the full archives")
	}
	file := filepath.Join(data, "cifar10_test.zip")
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the full archive is not there: %v", err)
	}
	d, err := Open(t.Context(), file, Options{PerClass: 200, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if d.Len() != 2000 || len(d.Classes) != 10 {
		t.Errorf("%d pictures of %d classes", d.Len(), len(d.Classes))
	}
	report, err := Check(t.Context(), file, Options{})
	if err != nil || report.Err() != nil || report.Pictures != 10000 {
		t.Errorf("%+v, %v", report, err)
	}
}
