package generator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/knn"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/stage"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// Bounds of what a judge asks for and keeps.
const (
	judgeBatch   = 64      // pictures of one call, the embedder's limit
	judgeBytes   = 1 << 30 // of the largest bank that is held
	judgeSamples = 2000    // embeddings of the bank that its own distances are taken of
	judgesKept   = 2       // banks that are held
)

// judge measures candidates against a space and, where there is one, a detector.
type judge struct {
	service *Service
	gate    Gate
	space   *embedderv1.Space
	bank    *heldBank
}

// heldBank is the bank of a space, made ready for search.
type heldBank struct {
	index   *knn.Index
	classes []string  // of every row
	own     []float64 // distances of its own embeddings to their K-th neighbour among the others, sorted
}

// banks are those used last.
type heldBanks struct {
	mu    sync.Mutex
	order []string
	held  map[string]*heldBank
}

// judge prepares the measurements of a set.
func (s *Service) judge(ctx context.Context, g Gate, space *embedderv1.Space) (*judge, error) {
	bank, err := s.heldBank(ctx, space, g.K)
	if err != nil {
		return nil, err
	}
	return &judge{service: s, gate: g, space: space, bank: bank}, nil
}

// heldBank returns a bank that is held, or reads it.
func (s *Service) heldBank(ctx context.Context, space *embedderv1.Space, k int) (*heldBank, error) {
	key := fmt.Sprintf("%s %d", space.Bank, k)
	h := &s.banks
	h.mu.Lock()
	defer h.mu.Unlock() // whoever comes second waits for the same bank
	if b := h.held[key]; b != nil {
		return b, nil
	}
	b, err := s.readBank(ctx, space, k)
	if err != nil {
		return nil, err
	}
	if h.held == nil {
		h.held = map[string]*heldBank{}
	}
	h.held[key], h.order = b, append(h.order, key)
	if len(h.order) > judgesKept {
		delete(h.held, h.order[0])
		h.order = h.order[1:]
	}
	return b, nil
}

func (s *Service) readBank(ctx context.Context, space *embedderv1.Space, k int) (*heldBank, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, rows := int(space.Dimension), 0
	for _, c := range space.Classes {
		rows += int(c.Count)
	}
	if size := 4 * d * rows; size > judgeBytes {
		return nil, fault.New(fault.FailedPrecondition, "the bank of %s has %d bytes, a gate holds at most %d: train the space with a smaller bank_per_class", space.Name, size, judgeBytes)
	}
	if rows < k+1 {
		return nil, fault.Invalid("gate.k", "%d; the bank of %s has %d embeddings", k, space.Name, rows)
	}
	stream, err := s.deps.Embedder.StreamBank(ctx, &embedderv1.StreamBankRequest{Space: space.Name})
	if err != nil {
		return nil, fmt.Errorf("bank of %s: %w", space.Name, err)
	}
	all, b := matrix.Matrix{Cols: d, Data: make([]float32, 0, rows*d)}, &heldBank{}
	for all.Rows < rows {
		p, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("bank of %s, %d of %d embeddings: %w", space.Name, all.Rows, rows, err)
		}
		if p.Bank != "" && p.Bank != space.Bank {
			return nil, fault.New(fault.Unavailable, "%s was trained again while its bank was read", space.Name)
		}
		if len(p.Values)%d != 0 {
			return nil, fmt.Errorf("bank of %s: a piece of %d values of %d dimensions", space.Name, len(p.Values), d)
		}
		all.Data = append(all.Data, p.Values...)
		all.Rows = len(all.Data) / d
		b.classes = append(b.classes, slices.Repeat([]string{p.Class}, len(p.Values)/d)...)
	}
	if b.index, err = knn.New(all, 0); err != nil {
		return nil, fmt.Errorf("bank of %s: %w", space.Name, err)
	}
	sample := matrix.Matrix{Cols: d}
	for i, n := 0, min(all.Rows, judgeSamples); i < n; i++ {
		sample.Data = append(sample.Data, all.Row(i*all.Rows/n)...)
		sample.Rows++
	}
	own, err := b.index.KthDistances(ctx, sample, k+1) // each is its own nearest
	for _, x := range own {
		b.own = append(b.own, math.Sqrt(float64(x)))
	}
	slices.Sort(b.own)
	return b, err
}

// measure looks at the pictures of candidates; those that are nil are broken.
func (j *judge) measure(ctx context.Context, files [][]byte) ([]Measured, error) {
	judged := stage.Begin(ctx, "judge")
	out := make([]Measured, len(files))
	var at []int // of the pictures that there are
	for i, file := range files {
		if file == nil {
			out[i].Broken = true
			continue
		}
		var err error
		if out[i].Hash, out[i].Contrast, err = look(file); err != nil {
			return nil, err
		}
		at = append(at, i)
	}
	for part := range slices.Chunk(at, judgeBatch) {
		images := make([][]byte, len(part))
		for k, i := range part {
			images[k] = files[i]
		}
		if err := j.embed(ctx, images, part, out); err != nil {
			return nil, err
		}
		if err := j.score(ctx, images, part, out); err != nil {
			return nil, err
		}
	}
	judged(int64(len(files)), 0)
	return out, nil
}

// embed measures the distance of pictures to the bank; at is where they are in out.
func (j *judge) embed(ctx context.Context, images [][]byte, at []int, out []Measured) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := j.service.deps.Embedder.EmbedImages(ctx)
	if err != nil {
		return fmt.Errorf("embed pictures in %s: %w", j.space.Name, err)
	}
	if err := stream.Send(&embedderv1.EmbedImagesRequest{Space: j.space.Name, Images: images}); err != nil {
		return fmt.Errorf("embed pictures in %s: %w", j.space.Name, err)
	}
	if err := stream.CloseSend(); err != nil {
		return fmt.Errorf("embed pictures in %s: %w", j.space.Name, err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("embed pictures in %s: %w", j.space.Name, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Internal, "the embedder did not end with one answer: %v", err)
	}
	if len(answer.Embeddings) != len(images) {
		return fault.New(fault.Internal, "the embedder gave %d embeddings for %d pictures", len(answer.Embeddings), len(images))
	}
	queries := matrix.New(len(images), int(j.space.Dimension))
	for i, e := range answer.Embeddings {
		copy(queries.Row(i), e.Values)
	}
	near, err := j.bank.index.Neighbours(ctx, queries, j.gate.K)
	if err != nil {
		return err
	}
	for i, n := range near {
		m := &out[at[i]]
		m.Distance = math.Sqrt(float64(n[len(n)-1].Distance))
		m.Nearest = j.bank.classes[n[0].Index]
		nearer, _ := slices.BinarySearch(j.bank.own, m.Distance)
		m.Quantile = float64(nearer) / float64(len(j.bank.own))
	}
	return nil
}

// score asks the detector.
func (j *judge) score(ctx context.Context, images [][]byte, at []int, out []Measured) error {
	if j.gate.Detector == "" {
		return nil
	}
	answer, err := j.service.deps.Trainer.ScoreImages(ctx, &trainerv1.ScoreImagesRequest{Detector: j.gate.Detector, Images: images, Aside: true})
	if err != nil {
		return fmt.Errorf("score pictures with %s: %w", j.gate.Detector, err)
	}
	if len(answer.Scores) != len(images) {
		return fault.New(fault.Internal, "the trainer gave %d scores for %d pictures", len(answer.Scores), len(images))
	}
	for i, s := range answer.Scores {
		m := &out[at[i]]
		m.Class, m.Confidence, m.Score = s.Class, float64(s.Probability), float64(s.Score)
	}
	return nil
}
