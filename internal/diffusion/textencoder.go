package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// Prompt is a text in which the embedding of one word may be replaced.
type Prompt struct {
	Text string
	// Token is the word, as it stands in the text; "" replaces nothing.
	Token string
	// Embedding takes the place of the token's rows of the table: H numbers,
	// k·H for a word of k tokens. Every occurrence is replaced.
	Embedding []float32
}

// TextEncoder computes the text embeddings of prompts with a CLIP text model.
// It is safe for concurrent use.
type TextEncoder struct {
	tokenizer  *Tokenizer
	session    *onnx.Session
	table      *tokenTable
	vocabulary int
	width      int
	ids        onnx.IO // input
	states     string  // output [B, L, H]
}

// textConfig is the part of text_encoder/config.json that is used; the models
// of both towers keep it under text_config.
type textConfig struct {
	VocabSize  int64       `json:"vocab_size"`
	HiddenSize int64       `json:"hidden_size"`
	Positions  int64       `json:"max_position_embeddings"`
	Text       *textConfig `json:"text_config"`
}

const (
	maxVocabulary = 1 << 22
	maxWidth      = 1 << 15
)

// OpenTextEncoder loads tokenizer/ and text_encoder/ of a model in the
// Diffusers layout, after it has looked at them as Open does.
func OpenTextEncoder(dir string, cfg onnx.Config) (*TextEncoder, error) {
	if err := vetTextEncoder(dir); err != nil {
		return nil, fmt.Errorf("open text encoder: %w", err)
	}
	return openTextEncoder(dir, cfg)
}

func openTextEncoder(dir string, cfg onnx.Config) (*TextEncoder, error) {
	path := filepath.Join(dir, "text_encoder", "config.json")
	var config textConfig
	if err := readOptional(path, &config); err != nil {
		return nil, fmt.Errorf("open text encoder: %w", err)
	}
	if config.Text != nil && config.VocabSize == 0 {
		config = *config.Text
	}
	unknown := config.VocabSize == 0 && config.HiddenSize == 0 // then the graph tells
	if !unknown && (config.VocabSize < 1 || config.VocabSize > maxVocabulary || config.HiddenSize < 1 || config.HiddenSize > maxWidth) {
		return nil, fmt.Errorf("open text encoder: %s: vocab_size %d, hidden_size %d: want 1 to %d and 1 to %d",
			path, config.VocabSize, config.HiddenSize, maxVocabulary, maxWidth)
	}
	tokenizer, err := OpenTokenizer(filepath.Join(dir, "tokenizer"), 0)
	if err != nil {
		return nil, fmt.Errorf("open text encoder: %w", err)
	}
	if n := config.Positions; n > 0 && int64(tokenizer.length) > n {
		return nil, fmt.Errorf("open text encoder: the tokenizer gives %d tokens per prompt, %s has %d positions", tokenizer.length, path, n)
	}
	e := &TextEncoder{tokenizer: tokenizer, vocabulary: int(config.VocabSize), width: int(config.HiddenSize)}
	path = filepath.Join(dir, "text_encoder", "model.onnx")
	if err := e.load(path, cfg); err != nil {
		return nil, fmt.Errorf("open text encoder: %s: %w", path, err)
	}
	return e, nil
}

func (e *TextEncoder) load(path string, cfg onnx.Config) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	model, err := onnxpb.Unmarshal(data)
	if err != nil {
		return err
	}
	cfg.ExternalData = filepath.Dir(path)
	if e.vocabulary == 0 {
		v, w, err := tokenTableShape(model.Graph)
		if err != nil {
			return err
		}
		e.vocabulary, e.width = int(v), int(w)
	}
	if err := keepStates(model.Graph); err != nil {
		return err
	}
	if e.table, err = overrideTokens(model, int64(e.vocabulary), int64(e.width), cfg.ExternalData); err != nil {
		return err
	}
	if data, err = onnxpb.Marshal(model); err != nil {
		return err
	}
	if e.session, err = onnx.NewSession(data, cfg); err != nil {
		return err
	}
	if err := e.bind(); err != nil {
		e.session.Close()
		return err
	}
	return nil
}

// bind finds the inputs and outputs by name and checks what they are.
func (e *TextEncoder) bind() error {
	for _, in := range e.session.Inputs() {
		switch in.Name {
		case "input_ids":
			e.ids = in
		case maskInput, embeddingInput:
		default:
			return fmt.Errorf("it wants an input %s, which CLIP text encoders do not have", in)
		}
	}
	if e.ids.DType != onnx.Int64 && e.ids.DType != onnx.Int32 {
		return errors.New("it has no integer input \"input_ids\"")
	}
	e.states = e.session.Outputs()[0].Name
	return nil
}

// Close frees the model.
func (e *TextEncoder) Close() error { return e.session.Close() }

// Tokenizer returns the tokenizer of the prompts.
func (e *TextEncoder) Tokenizer() *Tokenizer { return e.tokenizer }

// Width returns H, the length of a token embedding.
func (e *TextEncoder) Width() int { return e.width }

// TokenTable returns the token embeddings, [V, H] float32. It is shared: it
// must not be changed.
func (e *TextEncoder) TokenTable() []float32 { return e.table.rows }

// TokenEmbedding returns a copy of a row of the table, [H] float32.
func (e *TextEncoder) TokenEmbedding(id int64) ([]float32, error) {
	if id < 0 || id >= int64(e.vocabulary) {
		return nil, fmt.Errorf("token %d: the table has %d rows", id, e.vocabulary)
	}
	row := int(id) * e.width
	return slices.Clone(e.table.rows[row : row+e.width]), nil
}

// WordEmbedding returns the rows of a word's tokens, [k, H] float32, and k.
func (e *TextEncoder) WordEmbedding(word string) (rows []float32, k int, err error) {
	ids, err := e.tokenizer.Tokens(word)
	if err == nil && len(ids) == 0 {
		err = errors.New("it has no tokens")
	}
	for _, id := range ids {
		var row []float32
		if err == nil {
			row, err = e.TokenEmbedding(id)
		}
		rows = append(rows, row...)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("embedding of %q: %w", word, err)
	}
	return rows, len(ids), nil
}

// Encode computes the text embeddings of a batch, [B, L, H] float32. A token
// that its prompt does not contain is an error.
func (e *TextEncoder) Encode(ctx context.Context, prompts []Prompt) ([]float32, error) {
	b, l := len(prompts), e.tokenizer.length
	ids, mask := make([]int64, 0, b*l), make([]bool, b*l)
	embedding := make([]float32, b*l*e.width)
	var errs []error
	for i, p := range prompts {
		row, err := e.place(p, mask[i*l:(i+1)*l], embedding[i*l*e.width:(i+1)*l*e.width])
		errs = append(errs, err)
		ids = append(ids, row...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return e.run(ctx, int64(b), ids, mask, embedding)
}

// Check reports whether Encode would accept a prompt.
func (e *TextEncoder) Check(p Prompt) error {
	l := e.tokenizer.length
	_, err := e.place(p, make([]bool, l), make([]float32, l*e.width))
	return err
}

// place returns the ids of a prompt and writes its override into a row of the
// mask, [L], and of the embeddings, [L, H].
func (e *TextEncoder) place(p Prompt, mask []bool, embedding []float32) ([]int64, error) {
	ids, err := e.tokenizer.Encode(p.Text)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if id >= int64(e.vocabulary) {
			return nil, fmt.Errorf("prompt %q: token %d: the text encoder has %d", p.Text, id, e.vocabulary)
		}
	}
	if p.Token == "" {
		if len(p.Embedding) > 0 {
			return nil, fmt.Errorf("prompt %q: an embedding is given, but no token that it replaces", p.Text)
		}
		return ids, nil
	}
	word, err := e.tokenizer.Tokens(p.Token)
	if err != nil {
		return nil, err
	}
	if len(word) == 0 {
		return nil, fmt.Errorf("prompt %q: token %q is empty", p.Text, p.Token)
	}
	if len(p.Embedding) != len(word)*e.width {
		return nil, fmt.Errorf("prompt %q: token %q is %d token(s) of the vocabulary: want an embedding of %d numbers, got %d",
			p.Text, p.Token, len(word), len(word)*e.width, len(p.Embedding))
	}
	for _, v := range p.Embedding {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("prompt %q: the embedding of token %q has numbers that are not finite", p.Text, p.Token)
		}
	}
	body := ids[:slices.Index(ids[1:], e.tokenizer.eos)+1]
	found := false
	for i := 1; i+len(word) <= len(body); i++ {
		if slices.Equal(body[i:i+len(word)], word) {
			found = true
			copy(embedding[i*e.width:], p.Embedding)
			for k := range word {
				mask[i+k] = true
			}
			i += len(word) - 1
		}
	}
	if !found {
		return nil, fmt.Errorf("token %q does not occur in prompt %q%s", p.Token, p.Text, e.cutNote(p.Text))
	}
	return ids, nil
}

// cutNote says when a prompt is longer than what is encoded.
func (e *TextEncoder) cutNote(prompt string) string {
	if all, err := e.tokenizer.Tokens(prompt); err == nil && len(all) > e.tokenizer.length-2 {
		return fmt.Sprintf(", which is cut after %d of its %d tokens", e.tokenizer.length-2, len(all))
	}
	return ""
}

func (e *TextEncoder) run(ctx context.Context, b int64, ids []int64, mask []bool, embedding []float32) ([]float32, error) {
	l, h := int64(e.tokenizer.length), int64(e.width)
	in := map[string]*onnx.Tensor{}
	defer func() {
		for _, t := range in {
			t.Close()
		}
	}()
	var errs [3]error
	if e.ids.DType == onnx.Int32 {
		narrow := make([]int32, len(ids))
		for i, id := range ids {
			narrow[i] = int32(id)
		}
		in[e.ids.Name], errs[0] = onnx.NewInt32(narrow, b, l)
	} else {
		in[e.ids.Name], errs[0] = onnx.NewInt64(ids, b, l)
	}
	in[maskInput], errs[1] = onnx.NewBool(mask, b, l)
	in[embeddingInput], errs[2] = onnx.FromFloats(e.table.dtype, embedding, b, l, h)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("encode prompts: %w", err)
	}
	out, err := e.session.Run(ctx, in, e.states)
	if err != nil {
		return nil, fmt.Errorf("encode prompts: %w", err)
	}
	states := out[e.states]
	defer states.Close()
	if !slices.Equal(states.Shape(), []int64{b, l, h}) {
		return nil, fmt.Errorf("encode prompts: output %q is %v, want %v", e.states, states.Shape(), []int64{b, l, h})
	}
	return states.Floats()
}

// key tells prompts with different text embeddings apart.
func (p Prompt) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q", p.Text, p.Token)
	for _, v := range p.Embedding {
		fmt.Fprintf(&b, " %08x", math.Float32bits(v))
	}
	return b.String()
}
