package generator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/dreamood/dreamood/internal/diffusion"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// selection renders candidates and takes those that pass the gate.
type selection struct {
	job
	judge  *judge
	about  provenance
	kept   *progress
	report func(taken float64, class string)
	took   func(*generatorv1.Picture) error // a picture that is taken
	refuse func(*generatorv1.Picture) error // one that is not; broken ones have no PNG

	rendered int // candidates, counting those that were kept
	taken    int
}

// open makes the selection ready, and reads what was kept of the same one. what names the part of the set.
func (s *selection) open(ctx context.Context, what any) (err error) {
	if s.about, err = s.provenance(); err != nil {
		return err
	}
	d, err := s.service.detector(ctx, &s.judge.gate)
	if err != nil {
		return err
	}
	h := sha256.New()
	key := keyOf(s.about.digest, s.decoding, s.model.Batch(), nil)
	fmt.Fprintf(h, "gate 1 %x %q %q %v %v %+v %q %+v\n", key, s.space.Bank, s.space.Encoder, s.source, s.sampling, s.judge.gate, d.GetModel(), what)
	s.kept.open([sha256.Size]byte(h.Sum(nil)))
	return nil
}

// choose tries the candidates of a block from the k-th on, until want are taken or there are none left. Pictures near
// one of known count as duplicates; those that are taken are added to it.
func (s *selection) choose(ctx context.Context, b block, k, want int, known *seen) (tally, error) {
	var t tally
	class := s.space.Classes[b.label].Name
	for end := b.quota * s.judge.gate.MaxAttempts; t.Taken < want && k < end; {
		n := t.next(want-t.Taken, end-k, s.model.Batch())
		pictures, records, err := s.render(ctx, b.candidates(k, n, s.judge.gate.MaxAttempts))
		if err != nil {
			return t, err
		}
		files := make([][]byte, n)
		for i, p := range pictures {
			files[i] = p.PNG
		}
		measured, err := s.judge.measure(ctx, files)
		if err != nil {
			return t, err
		}
		for i, m := range measured {
			if t.Taken == want {
				break // the rest of the batch was not needed, and is not tried
			}
			k++
			t.Tried++
			reason := s.judge.gate.refuse(class, m)
			if reason == "" && known.duplicate(m.Hash) {
				reason = refusedDuplicate
			}
			if err := s.about.complete(records[i], pictures[i], Work{}); err != nil {
				return t, err
			}
			records[i].Judgement = m.judgement(reason)
			hand := s.took
			if reason != "" {
				t.refuse(reason, 1)
				hand = s.refuse
			} else {
				t.Taken++
				s.taken++
				known.keep(m.Hash)
			}
			if err := hand(&generatorv1.Picture{Png: files[i], Record: records[i]}); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// render makes the pictures of candidates, or returns them as they were kept. Broken ones have no PNG.
func (s *selection) render(ctx context.Context, c segment) ([]Rendered, []*generatorv1.PictureRecord, error) {
	work, records, err := s.embeddings(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	defer func() { s.rendered += c.count }()
	if pictures, whole := s.kept.pictures(s.rendered, c.count); whole {
		return pictures, records, nil
	}
	class := s.space.Classes[c.label].Name
	pictures, err := s.batch(ctx, work, diffusion.Options{From: s.kept.from(), Save: s.kept.step(), Progress: func(step, of int) {
		if s.report != nil {
			s.report(float64(s.taken), class)
		}
	}})
	if errors.Is(err, diffusion.ErrNotFinite) {
		pictures, err = s.apart(ctx, work)
	}
	if err != nil {
		s.kept.interrupted(ctx)
		return nil, nil, err
	}
	s.kept.batch(pictures)
	return pictures, records, nil
}

// apart renders candidates one by one, because one of them is broken.
func (s *selection) apart(ctx context.Context, work []Work) ([]Rendered, error) {
	out := make([]Rendered, len(work))
	for i := range work {
		one, err := s.batch(ctx, work[i:i+1], diffusion.Options{})
		switch {
		case errors.Is(err, diffusion.ErrNotFinite):
			out[i] = Rendered{Prompt: s.decoding.prompt(work[i])}
		case err != nil:
			return nil, err
		default:
			out[i] = one[0]
		}
	}
	return out, nil
}
