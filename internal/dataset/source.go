package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// entry is one folder or regular file of a source.
type entry struct {
	path string
	size int64
	ord  int // position in the source
	dir  bool
}

// source is a folder or an archive that holds a dataset.
type source interface {
	// list gives every entry to the listing. It returns an error only for
	// what is not a fault of the dataset (a cancelled context).
	list(ctx context.Context, l *listing) error
	// each reads the wanted entries, which are in the order of the source,
	// and calls do once for each with its bytes, or with the error that
	// reading gave. It stops at the first error that do returns.
	each(ctx context.Context, want []entry, do func(i int, data []byte, err error) error) error
	io.Closer
}

// openSource finds out by content what lies at path.
func openSource(name string, lim Limits) (source, *Problem) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, pathProblem(err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, pathProblem(err)
		}
		return &folder{fsys: root.FS(), closer: root, lim: lim}, nil
	}
	if !info.Mode().IsRegular() {
		return nil, &Problem{Reason: NotADataset, Detail: "neither a file nor a folder", Remedy: remedyArchive}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, pathProblem(err)
	}
	src, p := openArchive(f, info.Size(), filepath.Base(name), lim)
	if p != nil {
		_ = f.Close() // only read
		return nil, p
	}
	return src, nil
}

const remedyArchive = "give a folder with one folder per class, or a .zip, .tar or .tar.gz of one"

func openArchive(f *os.File, size int64, name string, lim Limits) (source, *Problem) {
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, pathProblem(err)
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return openZip(f, size, lim)
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return &tarball{file: f, size: size, gzip: true, lim: lim}, nil
	case len(head) > 262 && string(head[257:262]) == "ustar", strings.EqualFold(filepath.Ext(name), ".tar"):
		return &tarball{file: f, size: size, lim: lim}, nil
	}
	p := &Problem{Reason: NotADataset, Detail: "neither a folder nor a zip or tar archive", Remedy: remedyArchive}
	if kind := sniff(head); kind.name != "" {
		p.Detail += " (it looks like " + kind.name + ")"
	}
	return nil, p
}

// pathProblem explains why the path of the dataset itself cannot be opened.
func pathProblem(err error) *Problem {
	p := &Problem{Reason: NotADataset, Detail: err.Error(), Remedy: remedyArchive, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Reason, p.Detail, p.Remedy = NotFound, "there is nothing at this path", "check the spelling; a relative path starts at the working directory of the process that reads it"
	case errors.Is(err, fs.ErrPermission):
		p.Reason, p.Detail, p.Remedy = Permission, "no permission to read it", "let the user that runs dreamood read it (chmod -R u+rX)"
	}
	return p
}

// listing takes in the entries of a source and refuses what is unsafe.
type listing struct {
	lim      Limits
	problems *problems
	entries  []entry
	seen     map[string]bool
	count    int
	total    int64
}

// kind of an entry, as the source tells it.
type kind int

const (
	regular kind = iota
	directory
	link
	special
)

// add takes one entry and reports whether the source should go on.
func (l *listing) add(name string, size int64, ord int, k kind) bool {
	if l.count++; l.count > l.lim.MaxEntries {
		l.problems.addFatal(Problem{Reason: TooMany, Detail: fmt.Sprintf("more than %d files and folders", l.lim.MaxEntries), Remedy: "use a smaller part of it, or raise the limit of entries"})
		return false
	}
	name = strings.TrimPrefix(strings.TrimSuffix(name, "/"), "./") // as tar -C folder . writes them
	if k == directory && (name == "" || name == ".") {
		return true
	}
	if what := checkPath(name); what != "" {
		l.problem(name, UnsafeName, what, "rename it with letters, digits, spaces, _ and - and pack the dataset again")
		return true
	}
	if isJunk(name) {
		return true
	}
	switch k {
	case link:
		l.problem(name, Link, "a link; links are not followed", "put the picture itself there, or remove the link")
		return true
	case special:
		l.problem(name, SpecialFile, "neither a file nor a folder", "remove it")
		return true
	case directory:
		l.entries = append(l.entries, entry{path: name, ord: ord, dir: true})
		return true
	}
	if isCompanion(name) {
		return true
	}
	return l.addFile(name, size, ord)
}

func (l *listing) addFile(name string, size int64, ord int) bool {
	switch {
	case l.seen[name]:
		l.problem(name, Duplicate, "the archive holds this path twice", "pack the dataset again with one of them")
		return true
	case !isPicture(name):
		l.problem(name, Unsupported, "not a picture that can be read; only PNG, JPEG and WebP are", "convert it, or remove it from the dataset")
		return true
	case size == 0:
		l.problem(name, Unreadable, "the file is empty", "copy it again, or remove it")
		return true
	case size > l.lim.MaxFileBytes:
		l.problem(name, TooLarge, fmt.Sprintf("%s; a picture may have at most %s", mib(size), mib(l.lim.MaxFileBytes)), "make the picture smaller, or raise the limit of file bytes")
		return true
	}
	if l.total += size; l.total > l.lim.MaxTotalBytes {
		l.problems.addFatal(tooMuch(l.lim))
		return false
	}
	l.seen[name] = true
	l.entries = append(l.entries, entry{path: name, size: size, ord: ord})
	return true
}

func (l *listing) problem(file string, r Reason, detail, remedy string) {
	l.problems.add(-1, Problem{File: file, Reason: r, Detail: detail, Remedy: remedy})
}

func tooMuch(lim Limits) Problem {
	return Problem{Reason: TooLarge, Detail: fmt.Sprintf("the files are more than %s together", mib(lim.MaxTotalBytes)), Remedy: "use a smaller part of it, or raise the limit of total bytes"}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// readEntry reads exactly size bytes, so that an entry that lies about its
// size costs no more than it said.
func readEntry(r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return nil, errors.New("the file is longer than its entry says")
	case !errors.Is(err, io.EOF):
		return nil, err // for example a checksum that does not match
	}
	return data, nil
}
