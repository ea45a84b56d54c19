package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/bucket"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// The forms of an export.
const (
	formFolder     = "folder"     // CLASS/INDEX.png
	formWebDataset = "webdataset" // shard-NNNNNN.tar
)

// ExportFlags say how pictures are written.
type ExportFlags struct {
	Format    string `default:"folder" enum:"folder,webdataset" help:"folder: CLASS/INDEX.png. webdataset: tar shards that the Python package webdataset reads, with png, json and cls of every picture (default folder)."`
	ShardSize int    `default:"1000" placeholder:"N" help:"Pictures per tar shard (default 1000)."`
	Force     bool   `help:"Replace an export that is there."`
}

// exporter writes pictures, and a line of the manifest for each.
type exporter struct {
	to     destination
	shards *tarShards // nil: every picture is a file
	seen   map[string]bool
	names  map[string]bool // of the files that were written
	bytes  uint64
}

// newExporter opens a folder, or a part of a bucket by its URL, and makes it where it is missing.
func newExporter(ctx context.Context, to string, f ExportFlags) (*exporter, error) {
	if f.ShardSize < 1 {
		return nil, usage("--shard-size %d: want 1 or more", f.ShardSize)
	}
	e := &exporter{seen: map[string]bool{}, names: map[string]bool{}}
	var err error
	if strings.HasPrefix(to, bucket.Scheme) {
		e.to, err = openBucket(ctx, to, f.Force)
	} else {
		e.to, err = openFolderOver(to, f.Force, func(root *os.Root) error { return root.Rename(manifestName, manifestName+replacedSuffix) })
	}
	if err == nil && f.Format == formWebDataset {
		e.shards = &tarShards{to: e.to, most: f.ShardSize}
	}
	return e, err
}

// add writes one picture and its line of the manifest, after it has checked the record's path and checksum.
func (e *exporter) add(ctx context.Context, picture *generatorv1.Picture) error {
	record := picture.GetRecord()
	name := record.GetFile()
	if problem := badPath(record); problem != "" {
		return fmt.Errorf("export to %s: the server sent a picture named %q: %s", e.to, name, problem)
	}
	key := strings.ToLower(name) // two names that some file systems take for one
	if e.seen[key] {
		return fmt.Errorf("export to %s: the server sent the picture %q twice", e.to, name)
	}
	e.seen[key] = true
	sum := sha256.Sum256(picture.GetPng())
	if got := hex.EncodeToString(sum[:]); got != record.GetSha256() {
		return fmt.Errorf("export to %s: %s is damaged: sha256 %s, its record says %q; render the set again", e.to, name, got, record.GetSha256())
	}
	var err error
	if e.shards == nil {
		e.names[name] = true
		err = e.to.write(ctx, name, picture.GetPng())
	} else {
		e.names[e.shards.name()] = true
		record.Shard = proto.Int32(int32(e.shards.number))
		err = e.shards.add(ctx, picture)
	}
	if err != nil {
		return err
	}
	line, err := jsonLine(record)
	if err != nil {
		return err
	}
	e.bytes += uint64(len(picture.GetPng()))
	return e.to.line(line)
}

// finish puts the last shard and then the manifest in place.
func (e *exporter) finish(ctx context.Context) error {
	if e.shards != nil {
		if err := e.shards.flush(ctx); err != nil {
			return err
		}
	}
	if err := e.clear(ctx); err != nil {
		return err
	}
	return e.to.complete(ctx)
}

// clear removes the files of the export that was replaced, as far as this one did not write them anew: whoever reads all
// shards of a folder must not find old ones.
func (e *exporter) clear(ctx context.Context) error {
	old, err := e.to.replaced(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	lines := bufio.NewScanner(old)
	lines.Buffer(nil, maxLine)
	gone := map[string]bool{}
	for lines.Scan() {
		r := &generatorv1.PictureRecord{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(lines.Bytes(), r); err != nil || badPath(r) != "" {
			continue // none of ours
		}
		gone[r.File] = true
		if r.Shard != nil {
			gone[tarName(int(*r.Shard))] = true
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("export to %s: the manifest that is replaced: %w", e.to, err)
	}
	for name := range gone {
		if !e.names[name] {
			if err := e.to.remove(ctx, name); err != nil {
				return err
			}
		}
	}
	return e.to.remove(ctx, manifestName+replacedSuffix)
}

// close gives the destination back; what was not finished leaves no manifest.
func (e *exporter) close() {
	if e.shards != nil {
		e.shards.discard()
	}
	e.to.close()
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
	case strings.EqualFold(class, manifestName) || strings.EqualFold(class, manifestName+partialSuffix) || strings.EqualFold(class, manifestName+replacedSuffix):
		return "its class has the name of the manifest"
	}
	return ""
}
