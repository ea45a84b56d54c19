package dataset

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/philox"
)

// plan is what will be read of a source, in the order of the dataset: by
// label, then by path. So a dataset is the same however it was packed.
type plan struct {
	classes []string
	picks   []pick
}

// pick is one picture of the plan.
type pick struct {
	entry
	label int32
}

// makePlan sorts what was listed into classes. A labelled dataset must look
// like one; an unlabelled one may be any heap of pictures.
func makePlan(l *listing, opt Options, labelled bool) plan {
	under := strings.Trim(path.Clean("/"+opt.Under), "/")
	var files, dirs []entry
	for _, e := range l.entries {
		switch {
		case under != "" && !strings.HasPrefix(e.path, under+"/"):
		case e.dir:
			dirs = append(dirs, e)
		default:
			files = append(files, e)
		}
	}
	byClass, loose := groupByClass(files, under)
	if labelled {
		for _, e := range loose {
			l.problem(e.path, NoClassFolder, "the picture lies in no class folder", "give every class a folder of its own; to read one class folder, give the folder above it")
		}
		checkFolders(l, files, under)
		checkEmpty(l, files, dirs, opt.Classes)
		checkNames(l, byClass)
	} else if len(loose) > 0 {
		byClass[""] = append(byClass[""], loose...)
	}
	p := choose(l, byClass, opt)
	switch {
	case len(p.picks) == 0 && l.problems.count == 0:
		l.problems.addFatal(nothing(l, under))
	case labelled && len(p.classes) == 1:
		l.problems.add(-1, Problem{File: p.classes[0], Reason: OneClass, Detail: "this is the only class", Remedy: "a classifier needs two or more: add class folders, or give the folder above them"})
	}
	if need := int64(len(p.picks)) * int64(opt.Size) * int64(opt.Size) * 3; need > opt.Limits.MaxMemoryBytes {
		l.problems.addFatal(Problem{Reason: TooLarge, Detail: fmt.Sprintf("%d pictures of %d×%d take %s of memory; the limit is %s", len(p.picks), opt.Size, opt.Size, mib(need), mib(opt.Limits.MaxMemoryBytes)), Remedy: "take fewer per class or a smaller size, or raise the limit of memory bytes"})
	}
	return p
}

// groupByClass sorts files by the name of their folder, in the order of the
// source; loose ones lie in none.
func groupByClass(files []entry, under string) (byClass map[string][]entry, loose []entry) {
	byClass = map[string][]entry{}
	for _, e := range files {
		dir := path.Dir(e.path)
		if dir == "." || dir == under {
			loose = append(loose, e)
			continue
		}
		byClass[path.Base(dir)] = append(byClass[path.Base(dir)], e)
	}
	return byClass, loose
}

// checkFolders refuses train/ beside test/, whose union would leak one into the
// other, and class folders inside class folders, whose label is a guess.
func checkFolders(l *listing, files []entry, under string) {
	folders := map[string]bool{}
	for _, e := range files {
		folders[path.Dir(e.path)] = true
	}
	parts := map[string]bool{}
	for _, dir := range sorted(folders) {
		if dir == "." || dir == under {
			continue
		}
		for up := path.Dir(dir); up != "." && up != under; up = path.Dir(up) {
			if isPart(path.Base(up)) {
				parts[up] = true
			}
			if folders[up] {
				l.problem(dir, MixedFolders, fmt.Sprintf("the folder lies inside %s, which holds pictures too, so the class is unclear", printable(up)), "put both folders side by side, or move all pictures into one of them")
			}
		}
	}
	if len(parts) > 1 {
		names := sorted(parts)
		l.problems.addFatal(Problem{Reason: MixedFolders, Detail: "the dataset holds several parts: " + printable(strings.Join(names, ", ")), Remedy: "name the one to read, for example " + printable(names[0])})
	}
}

// checkEmpty reports folders with nothing below them that could be read.
func checkEmpty(l *listing, files, dirs []entry, wanted []string) {
	used := map[string]bool{}
	for _, list := range [][]entry{files, dirs} {
		for _, e := range list {
			for up := path.Dir(e.path); up != "." && !used[up]; up = path.Dir(up) {
				used[up] = true
			}
		}
	}
	for _, d := range dirs {
		if used[d.path] || len(wanted) > 0 && !slices.Contains(wanted, path.Base(d.path)) {
			continue
		}
		l.problem(d.path, EmptyClass, "the class folder holds no pictures", "put PNG, JPEG or WebP pictures there, or remove the folder")
	}
}

// checkNames reports class folders whose name cannot name a class.
func checkNames(l *listing, byClass map[string][]entry) {
	lower := map[string]string{}
	for _, name := range sorted(byClass) {
		folder := path.Dir(byClass[name][0].path)
		if what := checkClass(name); what != "" {
			l.problem(folder, ClassName, what, "rename the folder with letters, digits, spaces, _ and -")
		}
		key := strings.ToLower(name)
		if other, ok := lower[key]; ok {
			l.problem(folder, ClassName, fmt.Sprintf("the class name differs from %q only by capitals", other), "rename or merge the folders")
		}
		lower[key] = name
	}
}

// choose takes the wanted classes and pictures.
func choose(l *listing, byClass map[string][]entry, opt Options) plan {
	p := plan{classes: opt.Classes}
	if len(p.classes) == 0 {
		p.classes = sorted(byClass)
	}
	p.classes = slices.Clone(p.classes)
	for label, name := range p.classes {
		files := byClass[name]
		if len(files) == 0 {
			l.problem(name, MissingClass, "there are no pictures of this class", "ask for classes that are there: "+shortList(sorted(byClass)))
			continue
		}
		for _, e := range take(files, name, opt) {
			p.picks = append(p.picks, pick{e, int32(label)})
		}
	}
	slices.SortFunc(p.picks, func(a, b pick) int {
		return cmp.Or(cmp.Compare(a.label, b.label), strings.Compare(a.path, b.path))
	})
	return p
}

// take returns at most opt.PerClass files of a class. The choice of one class
// does not depend on the others, nor, with a seed, on the packing.
func take(files []entry, class string, opt Options) []entry {
	n := opt.PerClass
	if n == 0 || n >= len(files) {
		return files
	}
	if opt.Seed == 0 {
		return files[:n]
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	chosen := make([]entry, n)
	for i, j := range philox.Choose(len(files), n, philox.Key{Seed: opt.Seed, Purpose: "dataset.select." + class}) {
		chosen[i] = files[j]
	}
	return chosen
}

func nothing(l *listing, under string) Problem {
	p := Problem{Reason: NoPictures, Detail: "no pictures at all", Remedy: "give a folder with one folder of PNG, JPEG or WebP pictures per class"}
	if under == "" || len(l.entries) == 0 {
		return p
	}
	tops := map[string]bool{}
	for _, e := range l.entries {
		top, _, _ := strings.Cut(e.path, "/")
		tops[top] = true
	}
	p.File, p.Detail, p.Remedy = under, "no pictures below this folder", "name a folder that is there: "+shortList(sorted(tops))
	return p
}

// shortList names the first few of a list.
func shortList(names []string) string {
	const most = 10
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	if len(names) == 0 {
		return "there are none"
	}
	return printable(strings.Join(names, ", ")) + more
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
