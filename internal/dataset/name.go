package dataset

import (
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxPathBytes  = 1024
	maxPathDepth  = 16
	maxClassRunes = 64
)

// checkPath says what is wrong with a path inside a dataset, or "". A good one
// is a plain relative slash path: nothing that could leave the dataset, and
// nothing that could garble a terminal, a log or a manifest.
func checkPath(p string) string {
	switch {
	case p == "":
		return "the name is empty"
	case len(p) > maxPathBytes:
		return "the name is longer than 1024 bytes"
	case !utf8.ValidString(p):
		return "the name is not UTF-8"
	case strings.HasPrefix(p, "/") || len(p) > 1 && p[1] == ':':
		return "the path is absolute"
	case strings.Contains(p, `\`):
		return "the name holds a backslash"
	case strings.Count(p, "/") >= maxPathDepth:
		return "the folders are nested more than 16 deep"
	}
	for _, r := range p {
		if !unicode.IsGraphic(r) {
			return "the name holds a control character"
		}
	}
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "..":
			return "the path leads out of the dataset"
		case "", ".":
			return "the path has an empty part"
		}
	}
	return ""
}

// checkClass says what is wrong with the name of a class, or "".
func checkClass(name string) string {
	named := false
	for _, r := range name {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r):
			named = true
		case unicode.IsMark(r), r == ' ', r == '_', r == '-':
		default:
			return "the class name holds " + strconv.QuoteRune(r)
		}
	}
	switch {
	case !named:
		return "the class name has neither a letter nor a digit"
	case strings.TrimSpace(name) != name:
		return "the class name begins or ends with a space"
	case utf8.RuneCountInString(name) > maxClassRunes:
		return "the class name is longer than 64 characters"
	}
	return ""
}

// isJunk reports files and folders that operating systems and tools leave
// behind; they and everything below them are ignored.
func isJunk(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".directory",
			".gitkeep", ".keep", ".gitignore", ".ipynb_checkpoints", "@eaDir":
			return true
		}
		if strings.HasPrefix(part, "._") {
			return true
		}
	}
	return false
}

// isCompanion reports files that rightly lie beside pictures: a licence, a
// description, the manifest of an outlier set.
func isCompanion(p string) bool {
	base := strings.ToLower(path.Base(p))
	switch strings.TrimSuffix(base, path.Ext(base)) {
	case "readme", "license", "licence", "copying", "notice", "citation":
		switch path.Ext(base) {
		case "", ".md", ".txt", ".rst", ".cff", ".bib":
			return true
		}
	}
	return base == "manifest.jsonl"
}

// isPicture reports whether a name ends like a picture of a supported format.
func isPicture(p string) bool {
	switch strings.ToLower(path.Ext(p)) {
	case ".png", ".jpg", ".jpeg", ".webp":
		return true
	}
	return false
}

// isPart reports names of folders that hold a part of a dataset.
func isPart(name string) bool {
	switch strings.ToLower(name) {
	case "train", "training", "test", "testing", "val", "valid", "validation", "dev":
		return true
	}
	return false
}

// printable quotes a name that would garble a terminal or a log.
func printable(name string) string {
	bad := func(r rune) bool { return r == utf8.RuneError || !unicode.IsGraphic(r) }
	if strings.ContainsFunc(name, bad) {
		name = strconv.Quote(name)
	}
	if len(name) > 256 {
		cut := 256
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + "…"
	}
	return name
}
