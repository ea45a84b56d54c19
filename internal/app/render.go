package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/npy"
	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/ood"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	"github.com/dreamood/dreamood/services/generator"
)

// Rendering is stage 3 by hand: from the folder of a model and NumPy files to pictures, without a server. The zero value
// of everything but Model and Class is usable.
type Rendering struct {
	Model string // folder, in the Diffusers layout
	Class string // whose word embeddings replace
	Word  string // the word itself, of one or more tokens; "" = Class
	Label int    // row of a class in [classes, n, D]; with the index it keys the noise

	Embeddings string // [n, D], [n, k, D] for a word of k tokens, or [classes, n, D] float32; "" = the plain word
	Latents    string // [n, C, h, w] float32, standard normal, in place of drawn noise; "" = drawn
	Init       string // PNG, JPEG or WebP to begin with; "" = noise alone

	Settings *generatorv1.Rendering // zero fields are the defaults; no model
	Count    int                    // pictures; 0 = as many as there are embeddings or latents, else one
	Offset   int                    // index of the first one, in the files too
	Batch    int                    // pictures that are rendered together; 0 = by the model's size
	Provider string                 // see Config
	Threads  int                    // see Config
	Version  string                 // of the program, for records

	DumpText     string // file for the text encoder's output, [n, L, D]; "" = none
	DumpNegative string // file for that of the negative prompts, [n, L, D]; "" = none
	DumpLatents  string // file for the latents, [n, steps + 1, C, h, w]; "" = none
}

// HandRendering is a Rendering that was checked, with its model loaded. Close it.
type HandRendering struct {
	job      Rendering
	model    *diffusion.Pipeline
	hand     generator.Hand
	decoding generator.Decoding
	work     []generator.Work
}

// Open loads the model and reads the files. All that can be wrong is found here, as violations of the flag
// ("--embeddings") or of the setting ("rendering.steps").
func (j Rendering) Open(ctx context.Context) (*HandRendering, error) {
	var c fault.Checks
	c.That(j.Count >= 0, "--count", "%d; want 1 or more", j.Count)
	c.That(j.Offset >= 0, "--offset", "%d; want 0 or more", j.Offset)
	c.That(j.Label >= 0, "--label", "%d; want 0 or more", j.Label)
	c.That(j.Batch >= 0, "--batch", "%d; want 1 or more", j.Batch)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := onnx.Open(""); err != nil {
		return nil, err
	}
	model, err := diffusion.Open(j.Model, diffusion.Config{ONNX: onnx.Config{Provider: j.Provider, Threads: j.Threads}, Batch: j.Batch})
	if err != nil {
		return nil, err
	}
	r := &HandRendering{job: j, model: model}
	if err := r.prepare(ctx); err != nil {
		model.Close()
		return nil, err
	}
	return r, nil
}

func (r *HandRendering) prepare(ctx context.Context) error {
	j := r.job
	if j.Word == "" {
		j.Word = j.Class
	}
	name := filepath.Base(filepath.Clean(j.Model))
	if !ood.ValidID(name) {
		name = "model"
	}
	r.hand = generator.Hand{Model: r.model, Name: name, Settings: j.Settings, Given: j.Init != "", Version: j.Version}
	embeddings, err := j.readEmbeddings(r.model, j.Word)
	if err != nil {
		return fault.Invalid("--embeddings", "%w", err)
	}
	latents, err := j.readLatents(r.model)
	if err != nil {
		return fault.Invalid("--latents", "%w", err)
	}
	init, err := j.readInit(ctx, r.model)
	if err != nil {
		return fault.Invalid("--init", "%w", err)
	}
	n := j.Count
	if n == 0 {
		n = max(1, len(embeddings)-j.Offset, len(latents)-j.Offset)
	}
	for file, rows := range map[string][][]float32{"--embeddings": embeddings, "--latents": latents} {
		if rows != nil && len(rows) < j.Offset+n {
			return fault.Invalid(file, "it has %d rows; %d pictures from index %d on need %d", len(rows), n, j.Offset, j.Offset+n)
		}
	}
	for i := j.Offset; i < j.Offset+n; i++ {
		w := generator.Work{Class: j.Class, Label: j.Label, Index: i, Word: j.Word, Init: init, InitFile: j.Init}
		if embeddings != nil {
			w.Embedding = embeddings[i]
		}
		if latents != nil {
			w.Latents = latents[i]
		}
		r.work = append(r.work, w)
	}
	r.decoding, err = r.hand.Decoding(r.work)
	return err
}

// readEmbeddings returns a row for every picture.
func (j Rendering) readEmbeddings(model *diffusion.Pipeline, word string) ([][]float32, error) {
	if j.Embeddings == "" {
		return nil, nil
	}
	data, shape, err := readFloats(j.Embeddings)
	if err != nil {
		return nil, err
	}
	ids, err := model.TextEncoder().Tokenizer().Tokens(word)
	if err != nil {
		return nil, err
	}
	k, d := len(ids), model.Width()
	rows, ok := embeddingRows(data, shape, k, d, j.Label)
	if !ok {
		return nil, fmt.Errorf("%s has the shape %v: %q is %d token(s) of %d numbers each: want %s", j.Embeddings, shape, word, k, d, wantedShapes(k, d))
	}
	return rows, nil
}

func wantedShapes(k, d int) string {
	if k == 1 {
		return fmt.Sprintf("[n, %d], or [classes, n, %d] with --label below the classes", d, d)
	}
	return fmt.Sprintf("[n, %d, %d], a row for each token, or [classes, n, %d, %d] with --label below the classes", k, d, k, d)
}

// embeddingRows cuts an array into embeddings of k tokens of d numbers each.
func embeddingRows(data []float32, shape []int, k, d, label int) ([][]float32, bool) {
	size := k * d
	switch last := shape[max(0, len(shape)-1):]; {
	case len(last) == 0 || size == 0:
		return nil, false
	case last[0] == size && k > 1: // rows side by side
	case last[0] == d && k > 1: // a row for each token
		if shape = shape[:len(shape)-1]; len(shape) == 0 || shape[len(shape)-1] != k {
			return nil, false
		}
	case last[0] == d:
		if len(shape) == 3 && shape[1] == 1 { // [n, 1, D]
			shape = []int{shape[0], d}
		}
	default:
		return nil, false
	}
	switch len(shape) {
	case 1, 2:
	case 3: // [classes, n, …]
		if label >= shape[0] {
			return nil, false
		}
		data = data[label*shape[1]*size : (label+1)*shape[1]*size]
	default:
		return nil, false
	}
	return slices.Collect(slices.Chunk(data, size)), true
}

// readLatents returns the initial noise of every picture.
func (j Rendering) readLatents(model *diffusion.Pipeline) ([][]float32, error) {
	if j.Latents == "" {
		return nil, nil
	}
	data, shape, err := readFloats(j.Latents)
	if err != nil {
		return nil, err
	}
	want := model.LatentShape()
	if len(shape) == 3 {
		shape = append([]int{1}, shape...)
	}
	if len(shape) != 4 || !slices.Equal(shape[1:], want[:]) {
		return nil, fmt.Errorf("%s has the shape %v; want [n, %d, %d, %d]", j.Latents, shape, want[0], want[1], want[2])
	}
	return slices.Collect(slices.Chunk(data, want[0]*want[1]*want[2])), nil
}

func (j Rendering) readInit(ctx context.Context, model *diffusion.Pipeline) ([]uint8, error) {
	if j.Init == "" {
		return nil, nil
	}
	height, width, err := model.PictureSize(ctx)
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(j.Init)
	if err != nil {
		return nil, err
	}
	return generator.Picture(ctx, j.Init, file, height, width)
}

func readFloats(path string) ([]float32, []int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, shape, err := npy.Read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, shape, nil
}

// Count is the number of pictures.
func (r *HandRendering) Count() int { return len(r.work) }

// Close frees the model.
func (r *HandRendering) Close() error { return r.model.Close() }

// Render yields the pictures in their order. Files that were asked for appear whole, when all pictures are done.
func (r *HandRendering) Render(ctx context.Context, yield func(*generatorv1.Picture) error) error {
	files := &dumps{}
	defer files.discard()
	if err := files.texts(ctx, r); err != nil {
		return err
	}
	latents, err := files.latents(r)
	if err != nil {
		return err
	}
	if err := r.hand.Render(ctx, r.decoding, r.work, latents, yield); err != nil {
		return err
	}
	return files.finish()
}
