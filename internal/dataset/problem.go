package dataset

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// MaxProblems is how many problems an InvalidError names.
const MaxProblems = 10

// Reason says in one word what is wrong, for programs.
type Reason string

// Reasons.
const (
	NotFound      Reason = "not_found"       // the path does not exist
	Permission    Reason = "permission"      // not allowed to read
	NotADataset   Reason = "not_a_dataset"   // neither a folder nor a known archive
	Damaged       Reason = "damaged_archive" // an archive that cannot be read to its end
	ArchiveBomb   Reason = "archive_bomb"    // unpacks to far more than it is
	TooLarge      Reason = "too_large"       // a file, all files, or the decoded pictures
	TooMany       Reason = "too_many_files"  // more entries than allowed
	UnsafeName    Reason = "unsafe_name"     // a path that is no plain relative path
	ClassName     Reason = "class_name"      // a class folder whose name is no name
	Link          Reason = "link"            // a symbolic or hard link
	SpecialFile   Reason = "special_file"    // a device, pipe or socket
	Duplicate     Reason = "duplicate"       // the same path twice
	Unsupported   Reason = "unsupported"     // a file of another format
	WrongType     Reason = "wrong_type"      // the content is not what the name says
	PictureBomb   Reason = "picture_bomb"    // more pixels or scans than allowed
	Unreadable    Reason = "unreadable"      // truncated or damaged picture
	NoClassFolder Reason = "no_class_folder" // a picture outside any class folder
	EmptyClass    Reason = "empty_class"     // a class folder without pictures
	OneClass      Reason = "one_class"       // fewer than two classes
	MissingClass  Reason = "missing_class"   // a class that was asked for is not there
	MixedFolders  Reason = "mixed_folders"   // train/ and test/ in one, or a class inside a class
	NoPictures    Reason = "no_pictures"     // nothing to read
)

// Problem is one thing that is wrong with a dataset.
type Problem struct {
	File   string // path inside the dataset, made printable; empty for the dataset as a whole
	Reason Reason
	Detail string // what is wrong
	Remedy string // what to do about it
	Err    error  // cause, when there is one
}

// Error gives the file, what is wrong, and the remedy.
func (p Problem) Error() string {
	s := p.Detail + "; " + p.Remedy
	if p.File != "" {
		s = p.File + ": " + s
	}
	return s
}

// Unwrap returns the cause.
func (p Problem) Unwrap() error { return p.Err }

// InvalidError says everything that is wrong with a dataset, up to MaxProblems.
type InvalidError struct {
	Path     string
	Problems []Problem // in the order of the dataset, never empty
	More     int       // problems beyond those
}

// Error lists the problems, one per line when there are several.
func (e *InvalidError) Error() string {
	if len(e.Problems) == 1 && e.More == 0 {
		return fmt.Sprintf("dataset %s: %s", printable(e.Path), e.Problems[0].Error())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "dataset %s has %d problems:", printable(e.Path), len(e.Problems)+e.More)
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.Error())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As every problem.
func (e *InvalidError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// problems collects problems from several goroutines and keeps the first
// MaxProblems by position, so that a report does not depend on scheduling.
type problems struct {
	mu    sync.Mutex
	kept  []placed
	count int
	fatal bool // going on would be pointless or dangerous
}

type placed struct {
	at int // position in the dataset; -1 for what was found while listing
	Problem
}

func (ps *problems) add(at int, p Problem) {
	p.File = printable(p.File)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.count++
	ps.kept = append(ps.kept, placed{at, p})
	slices.SortStableFunc(ps.kept, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	ps.kept = ps.kept[:min(len(ps.kept), MaxProblems)]
}

func (ps *problems) addFatal(p Problem) {
	ps.add(-1, p)
	ps.fatal = true
}

// list returns the kept problems and the number of others.
func (ps *problems) list() (kept []Problem, more int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.kept {
		kept = append(kept, p.Problem)
	}
	return kept, ps.count - len(kept)
}

// err returns nil when there is no problem.
func (ps *problems) err(path string) error {
	kept, more := ps.list()
	if len(kept) == 0 {
		return nil
	}
	return &InvalidError{Path: path, Problems: kept, More: more}
}
