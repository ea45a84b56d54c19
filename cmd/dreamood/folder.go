package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

const (
	manifestName   = "manifest.jsonl"
	partialSuffix  = ".partial"
	maxNameBytes   = 255 // of one part of a path, the limit of common file systems
	reservedOnDisk = `<>:"|?*\`
)

// folder writes pictures as DIR/<class>/<index>.png and their records as DIR/manifest.jsonl. Every file appears
// whole or not at all, and the manifest last: a folder with one is complete. Nothing that a record says can make it
// write outside DIR, not even over a symbolic link inside it.
type folder struct {
	dir      string
	root     *os.Root
	manifest *os.File
	seen     map[string]bool
	bytes    uint64
}

// openFolder makes dir where it is missing. It refuses one that holds a finished export, unless replace.
func openFolder(dir string, replace bool) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	f := &folder{dir: dir, root: root, seen: map[string]bool{}}
	if _, err := root.Lstat(manifestName); err == nil && !replace {
		root.Close()
		return nil, usage("%s already holds an export; choose another folder, or replace it with --force", dir)
	} else if err == nil {
		if err := root.Remove(manifestName); err != nil {
			root.Close()
			return nil, fmt.Errorf("export to %s: %w", dir, err)
		}
	}
	if f.manifest, err = f.create(manifestName + partialSuffix); err != nil {
		root.Close()
		return nil, err
	}
	return f, nil
}

// add writes one picture and its line of the manifest, after it has checked the record's path and checksum.
func (f *folder) add(picture *generatorv1.Picture) error {
	record := picture.GetRecord()
	name := record.GetFile()
	if problem := badPath(record); problem != "" {
		return fmt.Errorf("export to %s: the server sent a picture named %q: %s", f.dir, name, problem)
	}
	key := strings.ToLower(name) // two names that some file systems take for one
	if f.seen[key] {
		return fmt.Errorf("export to %s: the server sent the picture %q twice", f.dir, name)
	}
	f.seen[key] = true
	sum := sha256.Sum256(picture.GetPng())
	if got := hex.EncodeToString(sum[:]); got != record.GetSha256() {
		return fmt.Errorf("export to %s: %s is damaged: sha256 %s, its record says %q; render the set again", f.dir, name, got, record.GetSha256())
	}
	if err := f.write(name, picture.GetPng()); err != nil {
		return err
	}
	line, err := jsonLine(record)
	if err != nil {
		return err
	}
	if _, err := f.manifest.Write(line); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	f.bytes += uint64(len(picture.GetPng()))
	return nil
}

// finish puts the manifest in place.
func (f *folder) finish() error {
	err := f.manifest.Sync()
	if e := f.manifest.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = f.root.Rename(manifestName+partialSuffix, manifestName)
	}
	if err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return nil
}

// close gives the folder back; what was not finished leaves no manifest.
func (f *folder) close() {
	f.manifest.Close()
	f.root.Remove(manifestName + partialSuffix)
	f.root.Close()
}

func (f *folder) write(name string, data []byte) error {
	if err := f.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	file, err := f.create(name + partialSuffix)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if e := file.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = f.root.Rename(name+partialSuffix, name)
	}
	if err != nil {
		f.root.Remove(name + partialSuffix)
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return nil
}

// create makes a new file; one that a killed export left behind goes first.
func (f *folder) create(name string) (*os.File, error) {
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("export to %s: %w", f.dir, err)
	}
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return file, nil
}

// badPath says what is wrong with the path of a record, or "". A good one is {class}/{index}.png with the record's
// own class, and means the same on every system.
func badPath(record *generatorv1.PictureRecord) string {
	class, base, ok := strings.Cut(record.GetFile(), "/")
	index := strings.TrimSuffix(base, ".png")
	switch {
	case !ok || class != record.GetClass() || index == base || index == "" || strings.Trim(index, "0123456789") != "":
		return fmt.Sprintf("not of the form class/index.png with the class %q", record.GetClass())
	case class == "" || class == "." || class == ".." || !utf8.ValidString(class):
		return "its class cannot name a folder"
	case len(class) > maxNameBytes || len(base)+len(partialSuffix) > maxNameBytes:
		return "its path is too long"
	case strings.ContainsAny(class, reservedOnDisk):
		return "its class holds a character that a folder's name cannot hold everywhere"
	case strings.ContainsFunc(class, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return "its class holds a control character"
	case strings.EqualFold(class, manifestName) || strings.EqualFold(class, manifestName+partialSuffix):
		return "its class has the name of the manifest"
	}
	return ""
}
