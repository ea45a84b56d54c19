package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpenIsTheSameInEveryPacking(t *testing.T) {
	var want *Dataset
	for _, prefix := range []string{"", "train/", "./", "./data/train/"} {
		for _, kind := range kinds {
			d, err := Open(t.Context(), pack(t, kind, animals(3, prefix)), Options{Size: 4})
			if err != nil {
				t.Fatalf("%s, prefix %q: %v", kind, prefix, err)
			}
			if want == nil {
				want = d
			}
			if !slices.Equal(d.Pixels, want.Pixels) || !slices.Equal(d.Labels, want.Labels) || d.Digest() != want.Digest() {
				t.Errorf("%s, prefix %q: another dataset", kind, prefix)
			}
		}
	}
	if diff := cmp.Diff([]string{"cat", "dog"}, want.Classes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int32{0, 0, 0, 1, 1, 1}, want.Labels); diff != "" {
		t.Error(diff)
	}
	if want.Image(4)[0] != 101 || want.Files[4] != "dog/01.png" || want.Resized != 0 {
		t.Errorf("picture 4 is %v of %s", want.Image(4)[:3], want.Files[4])
	}
}

func TestOpenIgnoresJunk(t *testing.T) {
	ms := append(animals(2, ""), member{name: ".DS_Store", data: []byte("x")}, member{name: "cat/.DS_Store", data: []byte("x")},
		member{name: "__MACOSX/cat/._00.png", data: []byte("x")}, member{name: "dog/Thumbs.db", data: []byte("x")},
		member{name: "dog/._01.png", data: []byte("x")}, member{name: "README.md", data: []byte("x")}, member{name: "LICENSE", data: []byte("x")},
		member{name: "manifest.jsonl", data: []byte("{}")})
	for _, kind := range kinds {
		d, err := Open(t.Context(), pack(t, kind, ms), Options{})
		if err != nil || d.Len() != 4 {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestBadDatasets holds every bad dataset of the issue, in every packing.
func TestBadDatasets(t *testing.T) {
	cut := tiny(1)[:50]
	with := func(ms ...member) []member { return append(animals(2, ""), ms...) }
	part := append(animals(1, "train/"), animals(1, "test/")...)
	cases := []struct {
		name   string
		ms     []member
		opt    Options
		reason Reason
		text   string // file and remedy
	}{
		{"empty class", with(member{name: "emu/"}), Options{}, EmptyClass, "emu: the class folder holds no pictures; put PNG"},
		{"one class", animals(2, "")[:2], Options{}, OneClass, "cat: this is the only class"},
		{"cut off", with(member{name: "cat/x.png", data: cut}), Options{}, Unreadable, "cat/x.png: the picture is cut off; copy it again"},
		{"empty file", with(member{name: "cat/x.png"}), Options{}, Unreadable, "cat/x.png: the file is empty"},
		{"bomb", with(member{name: "cat/x.png", data: bombPNG(50000, 50000)}), Options{}, PictureBomb, "cat/x.png: the picture claims 50000×50000"},
		{"PDF named png", with(member{name: "cat/x.png", data: []byte("%PDF-1.4")}), Options{}, WrongType, "cat/x.png: the content is a PDF document"},
		{"gif", with(member{name: "cat/x.gif", data: []byte("GIF89a")}), Options{}, Unsupported, "cat/x.gif: not a picture that can be read; only PNG, JPEG and WebP"},
		{"loose picture", with(member{name: "x.png", data: tiny(1)}), Options{}, NoClassFolder, "x.png: the picture lies in no class folder"},
		{"no name", with(member{name: "***/x.png", data: tiny(1)}), Options{}, ClassName, "***: the class name"},
		{"dotted name", with(member{name: "v1.2/x.png", data: tiny(1)}), Options{}, ClassName, "v1.2: the class name holds '.'; rename the folder"},
		{"no letter", with(member{name: "--/x.png", data: tiny(1)}), Options{}, ClassName, "neither a letter nor a digit"},
		{"capitals", with(member{name: "Cat/x.png", data: tiny(1)}), Options{}, ClassName, "only by capitals"},
		{"control character", with(member{name: "cat/a\x1b[2Jb.png", data: tiny(1)}), Options{}, UnsafeName, `"cat/a\x1b[2Jb.png": the name holds a control character`},
		{"not UTF-8", with(member{name: "cat/\xff.png", data: tiny(1)}), Options{}, UnsafeName, "UTF-8"},
		{"link", with(member{name: "cat/x.png", target: "/etc/passwd"}), Options{}, Link, "cat/x.png: a link; links are not followed"},
		{"train and test", part, Options{}, MixedFolders, "several parts: test, train; name the one to read, for example test"},
		{"class in class", with(member{name: "cat/wild/x.png", data: tiny(1)}), Options{}, MixedFolders, "cat/wild: the folder lies inside cat"},
		{"nothing", []member{{name: "README.md", data: []byte("x")}}, Options{}, NoPictures, "no pictures at all"},
		{"class not there", with(), Options{Classes: []string{"cat", "dog", "yak"}}, MissingClass, "yak: there are no pictures of this class; ask for classes that are there: cat, dog"},
		{"part not there", with(), Options{Under: "train"}, NoPictures, "train: no pictures below this folder; name a folder that is there: cat, dog"},
		{"too many", with(), Options{Limits: Limits{MaxEntries: 3}}, TooMany, "more than 3 files"},
		{"large file", with(), Options{Limits: Limits{MaxFileBytes: 20}}, TooLarge, "cat/00.png: 0.0 MiB"},
		{"large total", with(), Options{Limits: Limits{MaxTotalBytes: 100}}, TooLarge, "more than 0.0 MiB together"},
		{"large memory", with(), Options{Limits: Limits{MaxMemoryBytes: 100}}, TooLarge, "4 pictures of 32×32 take"},
	}
	for _, c := range cases {
		for _, kind := range kinds {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				file := pack(t, kind, c.ms)
				d, err := Open(t.Context(), file, c.opt)
				if d != nil {
					t.Fatal("a dataset came back")
				}
				requireProblem(t, err, c.reason, c.text)
				report, err := Check(t.Context(), file, c.opt)
				if err != nil {
					t.Fatal(err)
				}
				requireProblem(t, report.Err(), c.reason, c.text)
			})
		}
	}
}

func requireProblem(t *testing.T, err error, reason Reason, text string) {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("error %v, want an InvalidError", err)
	}
	for _, p := range invalid.Problems {
		if p.Reason == reason && strings.Contains(err.Error(), text) {
			if p.Remedy == "" {
				t.Errorf("%s has no remedy", p.Reason)
			}
			return
		}
	}
	t.Errorf("error %q (%+v), want %s with %q", err, invalid.Problems, reason, text)
}

func TestUnsafePathsInArchives(t *testing.T) {
	for name, text := range map[string]string{
		"../cat/x.png":       "leads out of the dataset",
		"cat/../../x.png":    "leads out of the dataset",
		"/etc/cat/x.png":     "the path is absolute",
		"C:/cat/x.png":       "the path is absolute",
		`cat\x.png`:          "backslash",
		"cat//x.png":         "empty part",
		"cat/./x.png":        "empty part",
		"cat/\u202egnp.png":  "control character",
		"cat/" + long + ".p": "longer than 1024",
		deep + "x.png":       "nested more than 16 deep",
	} {
		for _, kind := range []string{"zip", "tar", "tar.gz"} {
			_, err := Open(t.Context(), pack(t, kind, append(animals(2, ""), member{name: name, data: tiny(1)})), Options{})
			requireProblem(t, err, UnsafeName, text)
		}
	}
}

var (
	long = strings.Repeat("x", 1100)
	deep = strings.Repeat("d/", 17)
)

func TestPathsThatAreNoDataset(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tgz := string(gzipped(t, packTar(t, animals(40, ""))))
	zipFile := string(packZip(t, 0, animals(3, "")))
	cases := []struct {
		file   string
		reason Reason
		text   string
	}{
		{filepath.Join(dir, "no", "such"), NotFound, "there is nothing at this path; check the spelling"},
		{write("a.pdf", "%PDF-1.4"), NotADataset, "looks like a PDF document"},
		{write("picture.png", string(tiny(1))), NotADataset, "looks like a PNG picture"},
		{write("empty.zip", ""), NotADataset, "neither a folder nor a zip or tar"},
		{write("noise.tar", "no tar at all"), Damaged, "cannot be read to its end"},
		{write("cut.tar.gz", tgz[:len(tgz)/2]), Damaged, "copy or download it again"},
		{write("cut.zip", zipFile[:len(zipFile)-40]), Damaged, "copy or download it again"},
		{write("text.gz", string(gzipped(t, bytes.Repeat([]byte("no tar "), 200)))), Damaged, "cannot be read"},
	}
	for _, c := range cases {
		_, err := Open(t.Context(), c.file, Options{})
		requireProblem(t, err, c.reason, c.text)
	}
	_, err := Open(t.Context(), filepath.Join(dir, "no"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v is no fs.ErrNotExist", err)
	}
}

func TestDuplicatePath(t *testing.T) {
	for _, kind := range []string{"zip", "tar"} {
		_, err := Open(t.Context(), pack(t, kind, append(animals(2, ""), member{name: "cat/00.png", data: tiny(9)})), Options{})
		requireProblem(t, err, Duplicate, "cat/00.png: the archive holds this path twice")
	}
}

// lockedFS refuses to list one folder and to read one file.
type lockedFS struct{ fs.FS }

func (l lockedFS) Open(name string) (fs.File, error) {
	if name == "dog" || name == "cat/00.png" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return l.FS.Open(name)
}

func TestPermission(t *testing.T) {
	found := &problems{}
	l := &listing{lim: Limits{}.Defaults(), problems: found, seen: map[string]bool{}}
	src := &folder{fsys: lockedFS{os.DirFS(pack(t, "folder", animals(1, "")))}, lim: l.lim}
	if err := src.list(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	requireProblem(t, found.err("animals"), Permission, "dog: no permission to read it; let the user that runs dreamood read it")
	if _, err := src.read(entry{path: "cat/00.png", size: 1}); unreadable("cat/00.png", err).Reason != Permission {
		t.Errorf("error %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may read everything; the real folder is tested as another user only")
	}
	dir := pack(t, "folder", animals(1, ""))
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(dir, 0o755) }() // for the cleanup
	_, err := Open(t.Context(), dir, Options{})
	requireProblem(t, err, Permission, "no permission to read it")
}

// TestProblemsAreReportedTogether wants ten of fourteen, in order, however the
// decoders are scheduled.
func TestProblemsAreReportedTogether(t *testing.T) {
	ms := append(animals(20, ""), member{name: "emu/"})
	for i := range 13 {
		ms[i].data = []byte("%PDF")
	}
	for range 5 {
		_, err := Open(t.Context(), pack(t, "zip", ms), Options{Workers: 8})
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Fatal(err)
		}
		if len(invalid.Problems) != MaxProblems || invalid.More != 4 || !strings.HasSuffix(err.Error(), "and 4 more") {
			t.Fatalf("%d problems and %d more: %v", len(invalid.Problems), invalid.More, err)
		}
		if invalid.Problems[0].File != "emu" {
			t.Errorf("first problem is %v", invalid.Problems[0])
		}
		for i, p := range invalid.Problems[1:] {
			if want := fmt.Sprintf("cat/%02d.png", i); p.File != want {
				t.Errorf("problem %d is of %s, want %s", i+1, p.File, want)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	file := pack(t, "tar", append(animals(10, "train/"), animals(3, "test/")...))
	opt := Options{Size: 4, Under: "./train/", Classes: []string{"dog", "cat"}, PerClass: 4}
	d, err := Open(t.Context(), file, opt)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"train/dog/00.png", "train/dog/01.png", "train/dog/02.png", "train/dog/03.png"}, d.Files[:4]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{4, 4}, d.Counts()); diff != "" {
		t.Error(diff)
	}
	opt.Seed = 7
	shuffled, err := Open(t.Context(), file, opt)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(shuffled.Files, d.Files) {
		t.Error("a seed takes the first pictures too")
	}
	opt.Classes = nil
	again, err := Open(t.Context(), pack(t, "folder", animals(10, "train/")), opt)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Files[:4], shuffled.Files[4:]) { // cat in both
		t.Error("the choice of cat depends on the packing or on the other classes")
	}
}

func TestOpenUnlabelled(t *testing.T) {
	ms := []member{{name: "x.png", data: tiny(1)}, {name: "v1.2/y.png", data: tiny(2)}, {name: "train/z.png", data: tiny(3)}}
	for _, kind := range kinds {
		d, err := OpenUnlabelled(t.Context(), pack(t, kind, ms), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Len() != 3 || d.Resized != 3 {
			t.Errorf("%s: %d pictures, %d resized", kind, d.Len(), d.Resized)
		}
		if diff := cmp.Diff([]string{"", "train", "v1.2"}, d.Classes); diff != "" {
			t.Error(diff)
		}
	}
	_, err := OpenUnlabelled(t.Context(), pack(t, "zip", append(ms, member{name: "bad.png", data: []byte("%PDF")})), Options{})
	requireProblem(t, err, WrongType, "bad.png")
}

func TestAlphaIsCounted(t *testing.T) {
	var alpha []byte
	for _, p := range readRecorded(t).Pictures {
		if p.Name == "alpha.png" {
			alpha = p.Data
		}
	}
	d, err := Open(t.Context(), pack(t, "zip", append(animals(1, ""), member{name: "cat/a.png", data: alpha})), Options{})
	if err != nil || d.Alpha != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestOpenStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, kind := range kinds {
		file := pack(t, kind, animals(2, ""))
		if _, err := Open(ctx, file, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", kind, err)
		}
		if _, err := Check(ctx, file, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", kind, err)
		}
	}
}

func TestCheckReport(t *testing.T) {
	r, err := Check(t.Context(), pack(t, "zip", animals(3, "")), Options{})
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	want := Report{Name: r.Name, Classes: []ClassCount{{"cat", 3}, {"dog", 3}}, Pictures: 6, Bytes: r.Bytes, Formats: map[string]int{"png": 6}, MinSide: 4, MaxSide: 4}
	if diff := cmp.Diff(want, r); diff != "" || r.Bytes < 300 {
		t.Error(diff, r.Bytes)
	}
}
