package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// SpaceExportCmd writes the bank of a space to a folder.
type SpaceExportCmd struct {
	Name  string `arg:"" name:"space" field:"name" help:"The space."`
	Out   string `required:"" type:"path" placeholder:"DIR" help:"Folder to write to; made where it is missing."`
	Force bool   `help:"Replace an export that the folder holds."`
}

// Help teaches the command.
func (SpaceExportCmd) Help() string {
	return `Writes what the sampler works on, for NumPy and for sampling by hand:

    DIR/bank.npy        ID embeddings, unit rows, float32: [classes, n, dimension] where all classes have n of them,
                        as published, otherwise [N, dimension] and DIR/labels.npy, the class of each row
    DIR/anchors.npy     token embeddings of the classes [classes, dimension], float32
    DIR/manifest.jsonl  the classes in this order, with their words; it comes last: a folder that has one is complete

    dreamood space export pets --out out/pets
    dreamood sample --bank out/pets/bank.npy --anchors out/pets/anchors.npy --out outliers.npy --rounds 2`
}

// Run writes the bank.
func (c *SpaceExportCmd) Run(ctx context.Context, s *Session) error {
	name, err := resource(ood.Spaces, c.Name)
	if err != nil {
		return err
	}
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	got, err := embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: name})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := embedder.StreamBank(ctx, &embedderv1.StreamBankRequest{Space: name})
	if err != nil {
		return err
	}
	f, err := openBank(c.Out, c.Force, got.GetSpace())
	if err != nil {
		return err
	}
	defer f.close()
	show := s.progress()
	defer show.close()
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := f.add(piece); err != nil {
			return err
		}
		show.show(standing{what: "export " + name, done: int64(f.rows), total: int64(f.total), unit: "embeddings"})
	}
	if err := f.finish(); err != nil {
		return err
	}
	show.close()
	if s.json() {
		return s.object(got.GetSpace())
	}
	s.say("%d embeddings of %d classes, %d dimensions, are in %s", f.rows, len(f.space.GetClasses()), f.space.GetDimension(), c.Out)
	return nil
}

// bankFolder writes bank.npy, labels.npy and anchors.npy, whole or not at all, and the manifest last.
type bankFolder struct {
	*folder
	space       *embedderv1.Space
	bank        *os.File
	out         *bufio.Writer
	array       *npy.Writer
	even        bool // all classes have the same number of rows
	class       int  // that comes now
	inClass     int  // rows of it so far
	rows, total int
}

func openBank(dir string, replace bool, space *embedderv1.Space) (*bankFolder, error) {
	f := &bankFolder{space: space, even: true}
	for _, class := range space.GetClasses() {
		f.total += int(class.GetCount())
		f.even = f.even && class.GetCount() == space.GetClasses()[0].GetCount()
	}
	shape := []int{f.total, int(space.GetDimension())}
	if f.even && len(space.GetClasses()) > 0 {
		shape = []int{len(space.GetClasses()), int(space.GetClasses()[0].GetCount()), int(space.GetDimension())}
	}
	var err error
	if f.folder, err = openFolder(dir, replace); err != nil {
		return nil, err
	}
	if f.bank, err = f.create("bank.npy" + partialSuffix); err != nil {
		f.folder.close()
		return nil, err
	}
	f.out = bufio.NewWriterSize(f.bank, 1<<18)
	if f.array, err = npy.NewWriter(f.out, shape...); err != nil {
		f.close()
		return nil, fmt.Errorf("export to %s: %w", dir, err)
	}
	return f, nil
}

// add writes a piece of the bank. Pieces come class after class, in the order of the space.
func (f *bankFolder) add(piece *embedderv1.StreamBankResponse) error {
	classes := f.space.GetClasses()
	for f.class < len(classes) && f.inClass == int(classes[f.class].GetCount()) {
		f.class, f.inClass = f.class+1, 0
	}
	d := int(f.space.GetDimension())
	switch {
	case piece.GetOffset() == 0 && piece.GetBank() != f.space.GetBank():
		return fmt.Errorf("export to %s: %s was trained again meanwhile; try again", f.dir, f.space.GetName())
	case f.class == len(classes) || int(piece.GetLabel()) != f.class || int(piece.GetOffset()) != f.inClass || len(piece.GetValues())%d != 0:
		return fmt.Errorf("export to %s: the server sent row %d of class %d after row %d of class %d", f.dir, piece.GetOffset(), piece.GetLabel(), f.inClass-1, f.class)
	}
	if err := f.array.Append(piece.GetValues()); err != nil {
		return fmt.Errorf("export to %s: %w", f.dir, err)
	}
	n := len(piece.GetValues()) / d
	f.inClass, f.rows = f.inClass+n, f.rows+n
	return nil
}

// finish writes the anchors and the labels, puts the bank in place, then the manifest.
func (f *bankFolder) finish() error {
	if f.rows != f.total {
		return fmt.Errorf("export to %s: the server sent %d of %d embeddings; try again", f.dir, f.rows, f.total)
	}
	for _, step := range []func() error{
		f.array.Close, f.out.Flush, f.bank.Sync, f.bank.Close, f.anchors, f.labels,
		func() error { return f.root.Rename("bank.npy"+partialSuffix, "bank.npy") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("export to %s: %w", f.dir, err)
		}
	}
	for _, class := range f.space.GetClasses() {
		anchor := class.Anchor
		class.Anchor = nil // it is in the array
		line, err := jsonLine(class)
		class.Anchor = anchor
		if err != nil {
			return err
		}
		if _, err := f.manifest.Write(line); err != nil {
			return fmt.Errorf("export to %s: %w", f.dir, err)
		}
	}
	return f.folder.finish()
}

func (f *bankFolder) anchors() error {
	var data []float32
	for _, class := range f.space.GetClasses() {
		data = append(data, class.GetAnchor()...)
	}
	return f.file("anchors.npy", func(w io.Writer) error {
		return npy.Write(w, data, len(f.space.GetClasses()), int(f.space.GetDimension()))
	})
}

// labels are needed only where classes differ in size; those of an earlier export are removed otherwise.
func (f *bankFolder) labels() error {
	if f.even {
		if err := f.root.Remove("labels.npy"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return f.file("labels.npy", func(w io.Writer) error {
		if _, err := w.Write(npy.LabelsHeader(f.total)); err != nil {
			return err
		}
		for label, class := range f.space.GetClasses() {
			for range class.GetCount() {
				if err := binary.Write(w, binary.LittleEndian, int32(label)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// file writes one file, whole or not at all.
func (f *bankFolder) file(name string, write func(io.Writer) error) error {
	file, err := f.create(name + partialSuffix)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for _, step := range []func() error{
		func() error { return write(out) }, out.Flush, file.Sync, file.Close,
		func() error { return f.root.Rename(name+partialSuffix, name) },
	} {
		if err := step(); err != nil {
			file.Close()
			f.root.Remove(name + partialSuffix)
			return err
		}
	}
	return nil
}

// close gives the folder back; what was not finished is removed.
func (f *bankFolder) close() {
	f.bank.Close()
	f.root.Remove("bank.npy" + partialSuffix)
	f.folder.close()
}
