package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

const (
	manifestName   = "manifest.jsonl"
	partialSuffix  = ".partial"
	replacedSuffix = ".replaced"
	maxNameBytes   = 255 // of one part of a path, the limit of common file systems
	reservedOnDisk = `<>:"|?*\`
)

// folder is where an export is written. Every file appears whole or not at all, and DIR/manifest.jsonl last: a folder
// with one is complete. Nothing that a name says can make it write outside DIR, not even over a symbolic link inside it.
type folder struct {
	dir      string
	root     *os.Root
	manifest *os.File
}

// openFolder makes dir where it is missing. It refuses one that holds a finished export, unless replace.
func openFolder(dir string, replace bool) (*folder, error) {
	return openFolderOver(dir, replace, func(root *os.Root) error { return root.Remove(manifestName) })
}

// openFolderOver is openFolder, with what is done to the manifest of the export that is replaced.
func openFolderOver(dir string, replace bool, retire func(*os.Root) error) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	f := &folder{dir: dir, root: root}
	if _, err := root.Lstat(manifestName); err == nil && !replace {
		root.Close()
		return nil, usage("%s already holds an export; choose another folder, or replace it with --force", dir)
	} else if err == nil {
		if err := retire(root); err != nil {
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

// write writes a small file.
func (f *folder) write(_ context.Context, name string, data []byte) error {
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

// scratch is a new file that place puts under the name.
func (f *folder) scratch(name string) (*os.File, error) { return f.create(name + partialSuffix) }

// place puts a scratch file under its name.
func (f *folder) place(_ context.Context, name string, file *os.File) error {
	err := errors.Join(file.Sync(), file.Close())
	if err == nil {
		err = f.root.Rename(name+partialSuffix, name)
	}
	if err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return nil
}

// discard removes a scratch file.
func (f *folder) discard(name string, file *os.File) {
	file.Close()
	f.root.Remove(name + partialSuffix)
}

// replaced is the manifest of the export that this one replaces.
func (f *folder) replaced(context.Context) (io.ReadCloser, error) {
	return f.root.Open(manifestName + replacedSuffix)
}

// remove removes a file; none is no error. Folders that are empty then go too.
func (f *folder) remove(_ context.Context, name string) error {
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	if dir := path.Dir(name); dir != "." {
		_ = f.root.Remove(dir) // unless something is left in it
	}
	return nil
}

// line adds to the manifest.
func (f *folder) line(data []byte) error {
	if _, err := f.manifest.Write(data); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return nil
}

// complete is finish, for what exports to folders and buckets alike.
func (f *folder) complete(context.Context) error { return f.finish() }

func (f *folder) String() string { return f.dir }

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
