package generator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/png"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/onnx"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// reference is the model that the project ships.
func reference(t *testing.T, cfg diffusion.Config) *diffusion.Pipeline {
	t.Helper()
	if err := onnx.Open(""); err != nil {
		t.Fatal(err)
	}
	p, err := diffusion.Open("../../models/reference", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestRecordsRenderTheirPicturesAgain writes records as lines of JSON, reads them back and replays them in another order
// and in other batches.
func TestRecordsRenderTheirPicturesAgain(t *testing.T) {
	model := reference(t, diffusion.Config{})
	decoding, err := decodingOf(&generatorv1.Rendering{Steps: 2}, "reference")
	if err != nil {
		t.Fatal(err)
	}
	space := &embedderv1.Space{Name: "spaces/x", Bank: "sha256:b", Classes: []*embedderv1.SpaceClass{{Name: "frog", Word: "frog"}, {Name: "cat", Word: "cat"}}}
	j := job{service: &Service{cfg: Config{Version: "v1.2.3"}}, space: space, model: model, decoding: decoding, source: generatorv1.Source_SOURCE_OUTLIERS}
	row, err := model.TextEncoder().TokenEmbedding(320)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		e := slices.Clone(row)
		e[i] += 0.1
		j.given = append(j.given, &generatorv1.EmbeddingValues{Values: e})
	}
	var records []*generatorv1.PictureRecord
	err = j.each(t.Context(), []segment{{label: 1, first: 7, count: 5}}, nil, nil, func(p *generatorv1.Picture) error {
		line, err := protojson.Marshal(p.Record)
		if err != nil {
			return err
		}
		r := &generatorv1.PictureRecord{}
		records = append(records, r)
		if err := protojson.Unmarshal(line, r); err != nil {
			return err
		}
		img, err := png.Decode(bytes.NewReader(p.Png))
		if err != nil {
			return err
		}
		h := sha256.New()
		for i, v := range img.(*image.RGBA).Pix {
			if i%4 != 3 {
				h.Write([]byte{v})
			}
		}
		if got := hex.EncodeToString(h.Sum(nil)); r.PixelsSha256 != got {
			t.Errorf("the pixels have the sum %s, the record says %s", got, r.PixelsSha256)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first := records[0]
	length := model.TextEncoder().Tokenizer().Length()
	if first.GetLabel() != 1 || first.Index != 7 || len(first.TokenIds) != length || first.Version != "v1.2.3" || len(first.ModelParts) != 5 ||
		first.SchedulerOptions.Fields["num_train_timesteps"].GetNumberValue() != 1000 || first.Rendering.Scheduler == "" {
		t.Errorf("the record lacks something: %v", first)
	}
	slices.Reverse(records)
	again, err := Replay(t.Context(), model, records)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range again {
		if p.SHA256 != records[i].Sha256 {
			t.Errorf("%s became another picture", records[i].File)
		}
	}
	alone, err := Replay(t.Context(), model, records[2:3])
	if err != nil || alone[0].SHA256 != records[2].Sha256 {
		t.Errorf("alone it became another picture, %v", err)
	}
	records[0].Prompt += " on Mars"
	if _, err := Replay(t.Context(), model, records); err == nil {
		t.Error("a prompt that its settings do not give is rendered")
	}
	records[1].Label = nil
	if _, err := Replay(t.Context(), model, records[1:]); fault.ReasonOf(err) != fault.FailedPrecondition {
		t.Errorf("a record without a label: %v", err)
	}
}
