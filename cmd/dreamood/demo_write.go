package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/report"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// demoShown is how many outliers of a class the page shows.
const demoShown = 24

// gathered is what the page is made of, class by class.
type gathered struct {
	outliers, words [][]*generatorv1.Picture
	neighbours      [][][]byte    // PNG, of the outliers shown
	bank            matrix.Matrix // [N, D], unit rows
	labels          []int         // of the bank
}

// write puts everything into the folder.
func (d *demo) write(ctx context.Context) error {
	var g gathered
	var err error
	if g.outliers, err = d.pictures(ctx, d.set("outliers")); err != nil {
		return err
	}
	if g.words, err = d.pictures(ctx, d.set("words")); err != nil {
		return err
	}
	if err := d.readBank(ctx, &g); err != nil {
		return err
	}
	if err := d.findNeighbours(ctx, &g); err != nil {
		return err
	}
	if err := d.writePictures(ctx, &g); err != nil {
		return err
	}
	quiet := *d.s
	quiet.Out = io.Discard
	for file, detector := range map[string]*trainerv1.Detector{"detector.onnx": d.better, "detector-plain.onnx": d.plain} {
		if err := quiet.download(ctx, detector, filepath.Join(d.Out, file)); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(d.Out, "metrics.json"), d.metrics()); err != nil {
		return err
	}
	page := d.page(&g)
	return replaceFile(filepath.Join(d.Out, "report.html"), func(w io.Writer) error { return report.Write(w, page) })
}

// pictures reads a set, sorted by class.
func (d *demo) pictures(ctx context.Context, set string) ([][]*generatorv1.Picture, error) {
	generator, err := client(d.s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return nil, err
	}
	stream, err := generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: set})
	if err != nil {
		return nil, err
	}
	out := make([][]*generatorv1.Picture, len(d.space.Classes))
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		label := slices.IndexFunc(d.space.Classes, func(c *embedderv1.SpaceClass) bool { return c.Name == r.Picture.Record.Class })
		if label < 0 {
			return nil, fmt.Errorf("%s has a picture of class %q, %s has none", set, r.Picture.Record.Class, d.space.Name)
		}
		out[label] = append(out[label], r.Picture)
	}
}

func (d *demo) readBank(ctx context.Context, g *gathered) error {
	embedder, err := client(d.s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	stream, err := embedder.StreamBank(ctx, &embedderv1.StreamBankRequest{Space: d.space.Name})
	if err != nil {
		return err
	}
	g.bank = matrix.Matrix{Cols: int(d.space.Dimension)}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		g.bank.Data = append(g.bank.Data, p.Values...)
		for range len(p.Values) / g.bank.Cols {
			g.labels = append(g.labels, int(p.Label))
		}
		g.bank.Rows = len(g.labels)
	}
}

// findNeighbours embeds the training pictures and picks, for every outlier shown, the nearest of its class.
func (d *demo) findNeighbours(ctx context.Context, g *gathered) error {
	ds, err := dataset.Open(ctx, d.train(), dataset.Options{Size: int(d.space.ImageSize)})
	if err != nil {
		return err
	}
	g.neighbours = make([][][]byte, len(d.space.Classes))
	for label := range d.space.Classes {
		at := ds.Indices(int32(label))
		files := make([][]byte, len(at))
		for i, j := range at {
			if files[i], err = dataset.EncodePNG(ds.Image(j), ds.Size); err != nil {
				return err
			}
		}
		rows, err := d.s.embed(ctx, d.space, files)
		if err != nil {
			return err
		}
		index, err := knn.New(rows, 0)
		if err != nil {
			return err
		}
		queries, err := embeddings(ofPage(g.outliers[label])).Normalised()
		if err != nil {
			return err
		}
		near, err := index.Neighbours(ctx, queries, min(demoShown, rows.Rows))
		if err != nil {
			return err
		}
		taken := map[int]bool{}
		for _, candidates := range near {
			for _, n := range candidates { // each real picture once
				if !taken[n.Index] {
					taken[n.Index] = true
					g.neighbours[label] = append(g.neighbours[label], files[n.Index])
					break
				}
			}
		}
	}
	return nil
}

func ofPage(p []*generatorv1.Picture) []*generatorv1.Picture { return p[:min(len(p), demoShown)] }

// embeddings stacks the embeddings of pictures, [N, D].
func embeddings(pictures []*generatorv1.Picture) matrix.Matrix {
	var m matrix.Matrix
	for _, p := range pictures {
		m.Data = append(m.Data, p.Record.Embedding...)
		m.Rows, m.Cols = m.Rows+1, len(p.Record.Embedding)
	}
	return m
}

// writePictures writes the outliers with their manifest, the words and the neighbours, the embeddings, and for every
// class one picture of all: ID neighbours beside outliers.
func (d *demo) writePictures(ctx context.Context, g *gathered) error {
	f, err := newExporter(ctx, d.Out, ExportFlags{Format: formFolder, ShardSize: 1, Force: true})
	if err != nil {
		return err
	}
	defer f.close()
	var all matrix.Matrix
	for label, class := range d.space.Classes {
		for _, p := range g.outliers[label] {
			if err := f.add(ctx, p); err != nil {
				return err
			}
		}
		m := embeddings(g.outliers[label])
		all.Data, all.Rows, all.Cols = append(all.Data, m.Data...), all.Rows+m.Rows, m.Cols
		beside := filepath.Join(d.Out, "beside", class.Name+".png")
		if err := replaceFile(beside, func(w io.Writer) error { return sheet(w, g.neighbours[label], pngs(ofPage(g.outliers[label]))) }); err != nil {
			return err
		}
		for i, p := range g.words[label] {
			file := filepath.Join(d.Out, "words", class.Name, fmt.Sprintf("%06d.png", i))
			if err := replaceFile(file, func(w io.Writer) error { _, err := w.Write(p.Png); return err }); err != nil {
				return err
			}
		}
	}
	perClass := all.Rows / len(d.space.Classes)
	err = replaceFile(filepath.Join(d.Out, "embeddings.npy"), func(w io.Writer) error {
		return npy.Write(w, all.Data, len(d.space.Classes), perClass, all.Cols)
	})
	return errors.Join(err, f.finish(ctx))
}

func pngs(pictures []*generatorv1.Picture) [][]byte {
	out := make([][]byte, len(pictures))
	for i, p := range pictures {
		out[i] = p.Png
	}
	return out
}

// sheet draws ID neighbours in an upper block and outliers in a lower one, each picture three times enlarged.
func sheet(w io.Writer, blocks ...[][]byte) error {
	const columns, zoom, gap = 12, 3, 6
	height, side := 0, 0
	decoded := make([][]image.Image, len(blocks))
	for b, files := range blocks {
		for _, file := range files {
			img, err := png.Decode(bytes.NewReader(file))
			if err != nil {
				return err
			}
			side = max(side, img.Bounds().Dx())
			decoded[b] = append(decoded[b], img)
		}
		height += (len(files)+columns-1)/columns*(side*zoom+2) + gap
	}
	out := image.NewNRGBA(image.Rect(0, 0, columns*(side*zoom+2), height))
	draw.Draw(out, out.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	top := 0
	for _, pictures := range decoded {
		for i, img := range pictures {
			x, y := i%columns*(side*zoom+2), top+i/columns*(side*zoom+2)
			for dy := range side * zoom {
				for dx := range side * zoom {
					out.Set(x+dx, y+dy, img.At(dx/zoom, dy/zoom))
				}
			}
		}
		top += (len(pictures)+columns-1)/columns*(side*zoom+2) + gap
	}
	return png.Encode(w, out)
}
