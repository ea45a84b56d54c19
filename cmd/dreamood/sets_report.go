package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/dataset"
	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/report"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// SetsReportCmd writes the report of a set.
type SetsReportCmd struct {
	Name    string `arg:"" name:"set" field:"name" help:"The set."`
	Out     string `required:"" type:"path" placeholder:"FILE" help:"HTML file to write, one that loads nothing."`
	Dataset string `type:"path" placeholder:"PATH" help:"ID pictures here, as for space train: shows the nearest of them below each picture."`
	Shown   int    `default:"24" placeholder:"N" help:"Pictures shown of each class (default 24)."`
	Of      int    `default:"300" placeholder:"N" help:"ID pictures of each class that are searched for neighbours (default 300)."`
}

// Help teaches the command.
func (SetsReportCmd) Help() string {
	return `Shows a contact sheet of every class, with the nearest ID pictures below and examples of what the gate refused and
why, the yield of every class, and how confidence and distance to the bank are distributed.

    dreamood sets report outliers --out out/outliers.html
    dreamood sets report outliers --out out/outliers.html --dataset sample/cifar10_train.tar.gz`
}

// Run writes the report.
func (c *SetsReportCmd) Run(ctx context.Context, s *Session) error {
	if c.Shown < 1 || c.Of < 1 {
		return usage("--shown and --of want 1 or more")
	}
	name, err := resource(ood.Sets, c.Name)
	if err != nil {
		return err
	}
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	got, err := generator.GetSet(ctx, &generatorv1.GetSetRequest{Name: name})
	if err != nil {
		return err
	}
	g := &setGathered{set: got.GetSet(), shown: c.Shown, classes: map[string]*setClass{}}
	for _, refused := range []bool{false, true} {
		if refused && g.set.GetGate() == nil {
			break
		}
		if err := g.read(ctx, generator, refused); err != nil {
			return err
		}
	}
	if c.Dataset != "" {
		if err := g.neighbours(ctx, s, c.Dataset, c.Of); err != nil {
			return err
		}
	}
	page := g.page()
	if err := replaceFile(c.Out, func(w io.Writer) error { return report.WriteSet(w, page) }); err != nil {
		return err
	}
	s.say("the report of %s is in %s", name, c.Out)
	return nil
}

// setGathered is what a report shows.
type setGathered struct {
	set            *generatorv1.Set
	shown          int
	classes        map[string]*setClass
	taken, refused report.Values
	judged         bool
	measured       bool
}

type setClass struct {
	taken          int
	shown, refused []*generatorv1.Picture
	near           map[string][]byte // ID pictures, by the file of the picture that they are nearest to
}

func (g *setGathered) class(name string) *setClass {
	if g.classes[name] == nil {
		g.classes[name] = &setClass{near: map[string][]byte{}}
	}
	return g.classes[name]
}

// read reads the pictures that were taken, or the examples of refused ones.
func (g *setGathered) read(ctx context.Context, generator generatorv1.GeneratorServiceClient, refused bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := generator.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: g.set.GetName(), Refused: refused})
	if err != nil {
		return err
	}
	reasons := map[string]int{}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p := answer.GetPicture()
		c, values := g.class(p.GetRecord().GetClass()), &g.taken
		if refused {
			values = &g.refused
			if key := p.Record.Class + p.Record.GetJudgement().GetRefused(); reasons[key] < 4 {
				reasons[key]++
				c.refused = append(c.refused, p)
			}
		} else if c.taken++; len(c.shown) < g.shown {
			c.shown = append(c.shown, p)
		}
		if j := p.Record.GetJudgement(); j != nil {
			g.measured = true
			g.judged = g.judged || j.GetClass() != ""
			values.Confidence = append(values.Confidence, known(j.GetClass() != "", j.GetConfidence()))
			values.Distance = append(values.Distance, float64(j.GetBankDistance()))
		}
	}
}

func known(ok bool, x float32) float64 {
	if !ok {
		return math.NaN()
	}
	return float64(x)
}

// neighbours finds the nearest ID picture, of any class, of every picture that is shown.
func (g *setGathered) neighbours(ctx context.Context, s *Session, path string, most int) error {
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return err
	}
	space, err := embedder.GetSpace(ctx, &embedderv1.GetSpaceRequest{Name: g.set.GetSpace()})
	if err != nil {
		return err
	}
	ds, err := dataset.Open(ctx, path, dataset.Options{Size: int(space.GetSpace().GetImageSize())})
	if err != nil {
		return usage("--dataset: %w", err)
	}
	var files [][]byte
	for label := range ds.Classes {
		at := ds.Indices(int32(label))
		for _, i := range at[:min(len(at), most)] {
			file, err := dataset.EncodePNG(ds.Image(i), ds.Size)
			if err != nil {
				return err
			}
			files = append(files, file)
		}
	}
	bank, err := s.embed(ctx, space.GetSpace(), files)
	if err != nil {
		return err
	}
	index, err := knn.New(bank, 0)
	if err != nil {
		return err
	}
	for _, c := range g.classes {
		list := slices.Concat(c.shown, c.refused)
		queries, err := s.embed(ctx, space.GetSpace(), pngs(list))
		if err != nil {
			return err
		}
		near, err := index.Neighbours(ctx, queries, 1)
		if err != nil {
			return err
		}
		for i, n := range near {
			c.near[list[i].Record.File] = files[n[0].Index]
		}
	}
	return nil
}

// embed asks the embedder for the embeddings of pictures, [N, D].
func (s *Session) embed(ctx context.Context, space *embedderv1.Space, files [][]byte) (matrix.Matrix, error) {
	rows := matrix.Matrix{Cols: int(space.GetDimension())}
	embedder, err := client(s, embedderv1.NewEmbedderServiceClient)
	if err != nil {
		return rows, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := embedder.EmbedImages(ctx)
	if err != nil {
		return rows, err
	}
	for part := range slices.Chunk(files, maxBatch) {
		if err := stream.Send(&embedderv1.EmbedImagesRequest{Space: space.GetName(), Images: part}); err != nil && !errors.Is(err, io.EOF) {
			return rows, err
		}
		r, err := stream.Recv()
		if err != nil {
			return rows, err
		}
		for _, e := range r.GetEmbeddings() {
			rows.Data = append(rows.Data, e.GetValues()...)
			rows.Rows++
		}
	}
	return rows, stream.CloseSend()
}

// page is the report.
func (g *setGathered) page() report.SetPage {
	p := report.SetPage{
		Title: "Outlier set " + g.set.GetName(), Subtitle: fmt.Sprintf("of %s, %s", g.set.GetSpace(), sourceOf(g.set)), Generated: time.Now(), Version: version,
		Gated: g.set.GetGate() != nil, Judged: g.judged, Measured: g.measured, Taken: g.taken, Refused: g.refused,
	}
	yields := map[string]*generatorv1.ClassYield{}
	for _, y := range g.set.GetYields() {
		yields[y.GetClass()] = y
	}
	for _, name := range g.set.GetClasses() {
		c := g.class(name)
		sheet := report.SetClass{Name: name, Wanted: int(g.set.GetPerClass()), Taken: c.taken, Tried: c.taken, Limit: int(g.set.GetPerClass()),
			More: c.taken - len(c.shown), RefusedBy: map[string]int{}}
		if y := yields[name]; y != nil {
			sheet.Tried, sheet.Limit = int(y.GetTried()), int(y.GetLimit())
			for reason, n := range y.GetRefused() {
				sheet.RefusedBy[reason] = int(n)
			}
		}
		sheet.Pictures, sheet.Refused = c.sheet(c.shown), c.sheet(c.refused)
		p.Classes = append(p.Classes, sheet)
	}
	p.Settings = []report.Table{
		{Title: "Gate", Rows: rowsOf(g.set.GetGate())}, {Title: "Sampling", Rows: rowsOf(g.set.GetSampling())}, {Title: "Rendering", Rows: rowsOf(g.set.GetRendering())},
	}
	p.Provenance = []report.KV{{Key: "run", Value: g.set.GetRun()}, {Key: "made", Value: when(g.set.GetCreateTime())}, {Key: "model, sha256", Value: g.set.GetModelDigest()}}
	return p
}

func (c *setClass) sheet(list []*generatorv1.Picture) (out []report.SetPicture) {
	for _, p := range list {
		j := p.Record.GetJudgement()
		detail := fmt.Sprintf("distance of its embedding to the K-th ID neighbour %.3f\ncosine to the anchor %.3f", p.Record.GetKthDistance(), p.Record.GetAnchorCosine())
		if j.GetClass() != "" {
			detail += fmt.Sprintf("\nthe detector says %s, %.2f", j.GetClass(), j.GetConfidence())
		}
		if j != nil {
			detail += fmt.Sprintf("\ndistance of the picture to the bank %.3f, beyond %.0f %% of ID; nearest to %s\ncontrast %.1f, hash %s",
				j.GetBankDistance(), 100*j.GetBankQuantile(), j.GetNearestClass(), j.GetContrast(), j.GetHash())
		}
		out = append(out, report.SetPicture{PNG: p.GetPng(), Neighbour: c.near[p.Record.File], Index: int(p.Record.GetIndex()), Note: j.GetRefused(), Detail: detail})
	}
	return out
}

// rowsOf are the fields of a message that are set, in their order.
func rowsOf(m proto.Message) (rows []report.KV) {
	r := m.ProtoReflect()
	if !r.IsValid() {
		return nil
	}
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); r.Has(f) {
			value := fmt.Sprint(r.Get(f).Interface())
			if f.Message() != nil {
				value = protojson.Format(r.Get(f).Message().Interface())
			}
			rows = append(rows, report.KV{Key: string(f.Name()), Value: value})
		}
	}
	return rows
}
