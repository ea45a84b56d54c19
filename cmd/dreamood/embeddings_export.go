package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/ood"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// embeddingsName is the NumPy file of an exported embedding set.
const embeddingsName = "outliers.npy"

// EmbeddingsExportCmd writes a set to a folder.
type EmbeddingsExportCmd struct {
	Name   string   `arg:"" name:"set" field:"name" help:"The set."`
	Out    string   `required:"" type:"path" placeholder:"DIR" help:"Folder to write to; made where it is missing."`
	Class  []string `sep:"none" field:"class" placeholder:"CLASS" help:"Only this class; repeatable, in the order of the array (default: all)."`
	Offset int32    `field:"offset" placeholder:"N" help:"Index of the first embedding of each class (default 0)."`
	Count  int32    `field:"count" placeholder:"N" help:"Embeddings of each class (default: all that follow)."`
	Force  bool     `help:"Replace an export that the folder holds."`
}

// Help teaches the command.
func (EmbeddingsExportCmd) Help() string {
	return `Writes DIR/outliers.npy, the array [classes, n, dimension] float32 that the published code reads, and
DIR/manifest.jsonl: for each row of the array, in order, a JSON object with its class and index, the boundary point
(source), round, noise and rank that it came from, and its distances. Nothing is held in memory. The manifest comes
last: a folder that has one is complete.

    dreamood embeddings export outliers --out out/outliers
    dreamood embeddings export outliers --out out/cats --class cat --count 100`
}

// Run writes the set.
func (c *EmbeddingsExportCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Embeddings, c.Name)
	if err != nil {
		return err
	}
	set, err := s.getEmbeddings(ctx, name)
	if err != nil {
		return err
	}
	return s.exportEmbeddings(ctx, set, embeddingsExport{dir: c.Out, replace: c.Force, classes: c.Class, offset: c.Offset, count: c.Count})
}

// embeddingsExport says what of a set is written, and where.
type embeddingsExport struct {
	dir           string
	replace       bool
	classes       []string // none: all
	offset, count int32    // of each class; a count of 0 is all that follow
}

// exportEmbeddings writes a set, or some of it, to a folder.
func (s *Session) exportEmbeddings(ctx context.Context, set *samplerv1.EmbeddingSet, e embeddingsExport) error {
	if len(e.classes) == 0 {
		for _, class := range set.GetClasses() {
			e.classes = append(e.classes, class.GetName())
		}
	}
	for i, class := range e.classes {
		if slices.Contains(e.classes[:i], class) {
			return usage("--class %q is given twice", class)
		}
	}
	n := max(0, set.GetPerClass()-max(0, e.offset))
	if e.count > 0 {
		n = min(n, e.count)
	}
	f, err := openEmbeddings(e.dir, e.replace, len(e.classes), int(n), int(set.GetDimension()))
	if err != nil {
		return err
	}
	defer f.close()
	show := s.progress()
	defer show.close()
	total := int64(len(e.classes)) * int64(n)
	for _, class := range e.classes {
		err := s.eachEmbedding(ctx, &samplerv1.StreamEmbeddingSetRequest{Name: set.GetName(), Class: class, Offset: e.offset, Count: e.count},
			func(o *samplerv1.Outlier) error {
				if want := e.offset + int32(f.rows%int64(max(1, n))); o.GetClass() != class || o.GetIndex() != want {
					return fmt.Errorf("export to %s: the server sent embedding %d of %q in place of %d of %q", e.dir, o.GetIndex(), o.GetClass(), want, class)
				}
				show.show(standing{what: "export " + set.GetName(), done: f.rows + 1, total: total, unit: "embeddings"})
				return f.add(o)
			})
		if err != nil {
			return err
		}
	}
	if f.rows != total {
		return fmt.Errorf("export to %s: the server sent %d of %d embeddings; try again", e.dir, f.rows, total)
	}
	if err := f.finish(); err != nil {
		return err
	}
	show.close()
	if !s.json() {
		s.say("%s [%d, %d, %d] (%s) and its %s are in %s", embeddingsName, len(e.classes), n, set.GetDimension(), size(4*uint64(total)*uint64(set.GetDimension())), manifestName, e.dir)
	}
	return nil
}

// eachEmbedding hands over what a request streams.
func (s *Session) eachEmbedding(ctx context.Context, q *samplerv1.StreamEmbeddingSetRequest, take func(*samplerv1.Outlier) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sampler, err := client(s, samplerv1.NewSamplerServiceClient)
	if err != nil {
		return err
	}
	stream, err := sampler.StreamEmbeddingSet(ctx, q)
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(answer.GetOutlier()); err != nil {
			return err
		}
	}
}

// embeddingsFolder writes DIR/outliers.npy and its manifest, which appear whole and the manifest last.
type embeddingsFolder struct {
	*folder
	file  *os.File
	out   *bufio.Writer
	array *npy.Writer
	lines *bufio.Writer // of the manifest
	rows  int64
}

func openEmbeddings(dir string, replace bool, shape ...int) (*embeddingsFolder, error) {
	base, err := openFolder(dir, replace)
	if err != nil {
		return nil, err
	}
	f := &embeddingsFolder{folder: base, lines: bufio.NewWriterSize(base.manifest, 1<<16)}
	if f.file, err = base.create(embeddingsName + partialSuffix); err != nil {
		base.close()
		return nil, err
	}
	f.out = bufio.NewWriterSize(f.file, 1<<18)
	if f.array, err = npy.NewWriter(f.out, shape...); err != nil {
		f.close()
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	return f, nil
}

// add writes an embedding and its line of the manifest.
func (f *embeddingsFolder) add(o *samplerv1.Outlier) error {
	if err := f.array.Append(o.GetValues()); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	f.rows++
	values := o.Values
	o.Values = nil
	line, err := jsonLine(o)
	o.Values = values
	if err != nil {
		return err
	}
	// They are in the array. Inside of a string the quotes would be escaped.
	line = bytes.Replace(line, []byte(`"values":[],`), nil, 1)
	if _, err := f.lines.Write(line); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	return nil
}

// finish puts the array in place, then the manifest.
func (f *embeddingsFolder) finish() error {
	for _, step := range []func() error{
		f.array.Close, f.out.Flush, f.file.Sync, f.file.Close,
		func() error { return f.root.Rename(embeddingsName+partialSuffix, embeddingsName) }, f.lines.Flush,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("export to %s: %w", f.dir, err)
		}
	}
	return f.folder.finish()
}

// close gives the folder back; what was not finished is removed.
func (f *embeddingsFolder) close() {
	f.file.Close()
	f.root.Remove(embeddingsName + partialSuffix)
	f.folder.close()
}
