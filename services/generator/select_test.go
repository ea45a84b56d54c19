package generator

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/dreamood/dreamood/internal/diffusion"
)

// breaking is a model that gives no picture of some items.
type breaking struct {
	Pipeline
	broken map[uint64]bool
}

func (b breaking) Render(ctx context.Context, items []diffusion.Item, opts diffusion.Options) ([]diffusion.Image, error) {
	for i, item := range items {
		if b.broken[item.Key.Index] {
			return nil, fmt.Errorf("render: picture %d of the batch: %w", i, diffusion.ErrNotFinite)
		}
	}
	return b.Pipeline.Render(ctx, items, opts)
}

// TestBrokenCandidatesAreSetApart has two of four candidates broken: the others come out as they do alone.
func TestBrokenCandidatesAreSetApart(t *testing.T) {
	j := wordJob(t)
	whole := selection{job: j}
	want, _, err := whole.render(t.Context(), segment{first: 8, count: 4})
	if err != nil {
		t.Fatal(err)
	}
	j.model = breaking{j.model, map[uint64]bool{9: true, 11: true}}
	s := selection{job: j}
	got, records, err := s.render(t.Context(), segment{first: 8, count: 4})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if broken := i%2 == 1; broken != (got[i].PNG == nil) || !broken && !bytes.Equal(got[i].PNG, want[i].PNG) {
			t.Errorf("candidate %s: %d bytes, want broken %v", records[i].File, len(got[i].PNG), broken)
		}
		if got[i].Prompt != want[i].Prompt {
			t.Errorf("candidate %s: prompt %q", records[i].File, got[i].Prompt)
		}
	}
	measured, err := (&judge{}).measure(t.Context(), [][]byte{nil, nil})
	if err != nil || !measured[0].Broken || (Gate{MinContrast: -1, MaxConfidence: 1}).refuse("dog", measured[1]) != refusedBroken {
		t.Errorf("%+v, %v", measured, err)
	}
	if s.rendered != 4 {
		t.Errorf("%d rendered", s.rendered)
	}
}
