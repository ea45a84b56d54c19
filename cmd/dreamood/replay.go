package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/app"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// maxLine bounds a line of a manifest, in bytes.
const maxLine = 4 << 20

// ReplayCmd renders lines of a manifest again.
type ReplayCmd struct {
	Manifest string `arg:"" type:"path" help:"The manifest, or the folder of an export."`

	Line      []int  `xor:"which" placeholder:"N" help:"Only line N, counted from 1; repeatable."`
	Sample    int    `xor:"which" placeholder:"K" help:"Only K lines, picked at random (default 16)."`
	All       bool   `xor:"which" help:"All lines."`
	Seed      uint64 `default:"1" placeholder:"N" help:"Seed of --sample (default 1)."`
	Tolerance int    `placeholder:"N" help:"Take pictures whose pixels differ by at most N/255 for the same (default 0: bit for bit). Needs the pictures beside the manifest."`

	Model    string `type:"path" placeholder:"DIR" help:"Folder of the diffusion model (default: by its name, in --models)."`
	Models   string `default:"models" type:"path" env:"DREAMOOD_MODELS" placeholder:"DIR" help:"Folder of diffusion models (default models)."`
	OnServer bool   `help:"Render on the server (--server) instead of in this process."`
	Provider string `default:"cpu" enum:"cpu,openvino,cuda" env:"DREAMOOD_PROVIDER" help:"What ONNX Runtime computes on: cpu, openvino or cuda (default cpu)."`
	Threads  int    `env:"DREAMOOD_THREADS" placeholder:"N" help:"Threads of the native engine (default: one per core)."`
}

// Help teaches the command.
func (ReplayCmd) Help() string {
	return `Renders lines of a manifest again and compares the pictures with their sums. A line names everything that its
picture depends on, so the result is the same bit for bit with the same model, engine and kind of machine. Elsewhere it
says by how many 1/255 the pixels differ, where the pictures lie beside the manifest: in a folder or in tar shards.

    dreamood replay out/outliers/manifest.jsonl --sample 8
    dreamood replay out/outliers --line 17 --model models/reference
    dreamood replay out/outliers --all --tolerance 1 --output json

Exit code 0: all lines gave the same picture. 1: one did not.`
}

// Validate checks what the parser does not.
func (c *ReplayCmd) Validate() error {
	switch {
	case c.Sample < 0 || c.Tolerance < 0 || c.Tolerance > 255:
		return usage("--sample and --tolerance want 0 or more, --tolerance at most 255")
	case c.OnServer && c.Model != "":
		return usage("--on-server renders with the server's model of the manifest's name; leave --model away")
	}
	return nil
}

// Run replays the lines.
func (c *ReplayCmd) Run(ctx context.Context, s *Session) error {
	path := c.Manifest
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, manifestName)
	}
	lines, err := c.read(path)
	if err != nil {
		return err
	}
	originals := newOriginals(filepath.Dir(path))
	defer originals.close()
	show := s.progress()
	defer show.close()
	counts := map[string]int{}
	var t table
	t.row("LINE", "PICTURE", "RESULT", "LARGEST DIFFERENCE", "PIXELS THAT DIFFER")
	judge := func(line manifestLine, png []byte) error {
		v := c.compare(line, png, originals)
		counts[v.Result]++
		show.show(standing{what: "replay", done: int64(sum(counts)), total: int64(len(lines)), unit: "pictures"})
		if s.json() {
			return s.plain(v)
		}
		if v.Result != resultSame {
			t.row(v.Line, v.File, v.Result, v.difference(), v.share())
		}
		return nil
	}
	render := c.here
	if c.OnServer {
		render = c.there
	}
	if err := render(ctx, s, lines, judge); err != nil {
		return err
	}
	show.close()
	if !s.json() {
		if len(t.rows) > 1 {
			t.print(s.Out)
		}
		s.say("%d of %d pictures are the same, bit for bit", counts[resultSame], len(lines))
		if n := counts[resultWithin]; n > 0 {
			s.say("%d more are within %d/255", n, c.Tolerance)
		}
	}
	if counts[resultSame]+counts[resultWithin] < len(lines) {
		return &exitError{code: exitFailed}
	}
	return nil
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// manifestLine is a line of the manifest, and its number, from 1.
type manifestLine struct {
	number int
	record *generatorv1.PictureRecord
}

// read reads the wanted lines, in the order of the file.
func (c *ReplayCmd) read(path string) ([]manifestLine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage("%w", err)
	}
	defer f.Close()
	var all []manifestLine
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, maxLine)
	for n := 1; scanner.Scan(); n++ {
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 || len(c.Line) > 0 && !slices.Contains(c.Line, n) {
			continue
		}
		r := &generatorv1.PictureRecord{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if r.Rendering == nil || r.Sha256 == "" {
			return nil, fmt.Errorf("%s, line %d: no record of a picture: it has no rendering or no sha256", path, n)
		}
		all = append(all, manifestLine{n, r})
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s: a line has more than %s", path, size(maxLine))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(c.Line) > len(all):
		return nil, usage("%s has not all of the lines %d", path, c.Line)
	case len(all) == 0:
		return nil, usage("%s has no lines", path)
	}
	if c.All || len(c.Line) > 0 {
		return all, nil
	}
	n := c.Sample
	if n == 0 {
		n = 16
	}
	picked := rand.New(rand.NewPCG(c.Seed, 0)).Perm(len(all))[:min(n, len(all))]
	slices.Sort(picked)
	some := make([]manifestLine, len(picked))
	for i, k := range picked {
		some[i] = all[k]
	}
	return some, nil
}

// here renders in this process.
func (c *ReplayCmd) here(ctx context.Context, _ *Session, lines []manifestLine, judge func(manifestLine, []byte) error) error {
	r := app.Replayer{Models: c.Models, Model: c.Model, Provider: c.Provider, Threads: c.Threads}
	defer r.Close()
	records := make([]*generatorv1.PictureRecord, len(lines))
	for i, line := range lines {
		records[i] = line.record
	}
	next := 0
	return r.Render(ctx, records, func(_ *generatorv1.PictureRecord, png []byte) error {
		next++
		return judge(lines[next-1], png)
	})
}

// there renders on the server, picture by picture.
func (c *ReplayCmd) there(ctx context.Context, s *Session, lines []manifestLine, judge func(manifestLine, []byte) error) error {
	generator, err := client(s, generatorv1.NewGeneratorServiceClient)
	if err != nil {
		return err
	}
	for _, line := range lines {
		r := line.record
		q := &generatorv1.RenderOutliersRequest{
			Space: r.Space, Class: r.Class, Count: 1, Offset: r.Index, Rendering: r.Rendering, Source: r.Source,
		}
		if r.Source != generatorv1.Source_SOURCE_WORDS {
			q.Embeddings = []*generatorv1.EmbeddingValues{{Values: r.Embedding}}
		}
		stream, err := generator.RenderOutliers(ctx, q)
		if err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("line %d, %s: %w", line.number, r.File, err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d, %s: the server did not end with one picture: %v", line.number, r.File, err)
		}
		if err := judge(line, answer.GetPicture().GetPng()); err != nil {
			return err
		}
	}
	return nil
}

// compare says how a picture that was rendered again stands to its line.
func (c *ReplayCmd) compare(line manifestLine, png []byte, originals *originals) verdict {
	v := verdict{Line: line.number, File: line.record.File, Want: line.record.Sha256, Result: resultDiffers}
	got := sha256.Sum256(png)
	v.Got = hex.EncodeToString(got[:])
	if v.Got == v.Want {
		v.Result = resultSame
		return v
	}
	original, err := originals.find(line.record)
	if err != nil {
		v.Note = err.Error()
		return v
	}
	d, err := differenceOf(original, png)
	if err != nil {
		v.Note = err.Error()
		return v
	}
	v.Difference = &d
	if d.Largest == 0 {
		v.Note = "the same pixels, written by another encoder of PNG"
	}
	if d.Largest <= c.Tolerance {
		v.Result = resultWithin
	}
	return v
}
