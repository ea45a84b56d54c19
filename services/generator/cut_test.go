package generator

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/onnx"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

func TestShardSize(t *testing.T) {
	for _, c := range []struct {
		total      int
		perPicture time.Duration
		want       int
	}{
		{10_000, 0, 32},                      // not known
		{10_000, time.Second, 45},            // 45 s
		{10_000, time.Minute, 4},             // never one by one
		{10_000, 10 * time.Millisecond, 256}, // never by the thousand
		{1_000, 10 * time.Millisecond, 125},  // for eight workers
		{100, 10 * time.Millisecond, 32},     // small sets as ever
		{100, time.Nanosecond, 32},           // no overflow
		{100, 24 * time.Hour, 4},
	} {
		if got := shardSize(c.total, c.perPicture); got != c.want {
			t.Errorf("%d pictures of %s: %d a shard, want %d", c.total, c.perPicture, got, c.want)
		}
	}
}

// TestPicturesDoNotDependOnTheCut renders five pictures of two classes in one, two and five shards, with the reference
// model: the same bytes.
func TestPicturesDoNotDependOnTheCut(t *testing.T) {
	if err := onnx.Open(""); err != nil {
		t.Fatal(err)
	}
	models := newModels("../../models", func(dir string) (Pipeline, error) { return diffusion.Open(dir, diffusion.Config{}) })
	t.Cleanup(func() { models.close() })
	model, err := models.get(t.Context(), "reference")
	if err != nil {
		t.Fatal(err)
	}
	decoding, err := decodingOf(&generatorv1.Rendering{Steps: 2}, "reference")
	if err != nil {
		t.Fatal(err)
	}
	j := job{
		service: &Service{},
		space:   &embedderv1.Space{Classes: []*embedderv1.SpaceClass{{Name: "cat", Word: "cat"}, {Name: "dog", Word: "dog"}}},
		model:   model, decoding: decoding, source: generatorv1.Source_SOURCE_WORDS,
	}
	const total, perClass = 6, 3
	var whole [][]byte
	for _, shards := range []int{1, 2, 5} {
		var got [][]byte
		for i := range shards {
			from, to := part(total, i, shards)
			err := j.each(t.Context(), segmentsOf(from, to, perClass, []int{0, 1}), nil, nil, func(p *generatorv1.Picture) error {
				got = append(got, p.Png)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if whole == nil {
			whole = got
		}
		if len(got) != total || !slices.EqualFunc(got, whole, bytes.Equal) {
			t.Errorf("%d pictures in %d shards differ from those in one", len(got), shards)
		}
	}
	if bytes.Equal(whole[0], whole[1]) {
		t.Error("two pictures are one")
	}
}
