package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

func export(t *testing.T, dir string, set ...*generatorv1.Picture) result {
	t.Helper()
	return (&fake{set: set}).typed(t, "sets", "export", "demo", "--out", dir)
}

func TestExportWritesPicturesAndAManifestThatReadsBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	set := []*generatorv1.Picture{picture("german shepherd/0.png", "german shepherd", "one"), picture("cat/00012.png", "cat", "two")}
	set[1].Record.Embedding, set[1].Record.Index = []float32{0.25, -1}, 12
	export(t, dir, set...).wants(t, exitOK, "2 pictures", dir)
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for i := 0; lines.Scan(); i++ {
		var record generatorv1.PictureRecord
		if err := protojson.Unmarshal(lines.Bytes(), &record); err != nil || !proto.Equal(&record, set[i].Record) {
			t.Fatalf("line %d: %v, %v", i, err, &record)
		}
		if png, err := os.ReadFile(filepath.Join(dir, record.File)); err != nil || !bytes.Equal(png, set[i].Png) {
			t.Fatalf("%s: %q, %v", record.File, png, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*"+partialSuffix)); left != nil {
		t.Fatalf("left behind: %v", left)
	}
	export(t, dir, set...).wants(t, exitUsage, "already holds an export", "--force")
	(&fake{set: set}).typed(t, "sets", "export", "demo", "--out", dir, "--force").wants(t, exitOK, "2 pictures")
}

func TestExportRefusesHostileRecords(t *testing.T) {
	for name, p := range map[string]*generatorv1.Picture{
		"up":                picture("../0.png", "..", "x"),
		"far up":            picture("../../etc/0.png", "../../etc", "x"),
		"up inside":         picture("cat/../../0.png", "cat", "x"),
		"absolute":          picture("/tmp/0.png", "/tmp", "x"),
		"absolute, empty":   picture("/0.png", "", "x"),
		"here":              picture("./0.png", ".", "x"),
		"backslash":         picture(`..\x/0.png`, `..\x`, "x"),
		"drive":             picture("C:/0.png", "C:", "x"),
		"escape sequence":   picture("a\x1b[2J/0.png", "a\x1b[2J", "x"),
		"NUL":               picture("a\x00/0.png", "a\x00", "x"),
		"no class":          picture("0.png", "", "x"),
		"another class":     picture("dog/0.png", "cat", "x"),
		"no picture":        picture("cat/0.sh", "cat", "x"),
		"hidden":            picture("cat/.png", "cat", "x"),
		"no index":          picture("cat/x.png", "cat", "x"),
		"manifest as class": picture("manifest.jsonl/0.png", "manifest.jsonl", "x"),
		"long class":        picture(strings.Repeat("a", 300)+"/0.png", strings.Repeat("a", 300), "x"),
		"long index":        picture("cat/"+strings.Repeat("1", 300)+".png", "cat", "x"),
		"not UTF-8 path":    picture("cat/0.png/1.png", "cat", "x"),
		"empty":             {},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			dir := filepath.Join(outside, "a", "b", "out")
			export(t, dir, picture("cat/7.png", "cat", "fine"), p).wants(t, exitFailed, "the server sent a picture named")
			var files []string
			filepath.WalkDir(outside, func(path string, e os.DirEntry, _ error) error {
				if !e.IsDir() {
					files = append(files, path)
				}
				return nil
			})
			if len(files) != 1 || files[0] != filepath.Join(dir, "cat", "7.png") {
				t.Fatalf("files %v", files)
			}
		})
	}
}

func TestExportVerifiesChecksumsAndNames(t *testing.T) {
	dir := t.TempDir()
	damaged := picture("cat/0.png", "cat", "right")
	damaged.Png = []byte("wrong")
	export(t, dir, damaged).wants(t, exitFailed, "cat/0.png is damaged", "sha256")
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Fatalf("left behind: %v", entries)
	}
	export(t, dir, picture("cat/0.png", "cat", "a"), picture("cat/0.png", "cat", "b")).wants(t, exitFailed, "twice")
	export(t, t.TempDir(), picture("cat/0.png", "cat", "a"), picture("Cat/0.png", "Cat", "b")).wants(t, exitFailed, "twice")
}

func TestExportDoesNotFollowLinksOutOfTheFolder(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "cat")); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	export(t, dir, picture("cat/0.png", "cat", "x")).wants(t, exitFailed, "escapes")
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Fatalf("written outside: %v", entries)
	}
	dir = t.TempDir()
	os.Symlink(victim, filepath.Join(dir, "manifest.jsonl"+partialSuffix))
	os.Mkdir(filepath.Join(dir, "cat"), 0o755)
	os.Symlink(victim, filepath.Join(dir, "cat", "0.png"))
	export(t, dir, picture("cat/0.png", "cat", "x")).wants(t, exitOK)
	if text, _ := os.ReadFile(victim); string(text) != "mine" {
		t.Fatalf("a link was written through: %q", text)
	}
}
