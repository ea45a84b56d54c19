package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/npy"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// kennel is the sampler of a fake server: one embedding set of the classes "cat" and "big dog", 5 of each.
type kennel struct {
	samplerv1.UnimplementedSamplerServiceServer
	asked   *samplerv1.SampleSetRequest
	deleted string
	spoil   func([]*samplerv1.Outlier) []*samplerv1.Outlier // of a class
}

func (k *kennel) SampleSet(_ context.Context, q *samplerv1.SampleSetRequest) (*samplerv1.SampleSetResponse, error) {
	k.asked = q
	return &samplerv1.SampleSetResponse{Run: runIn(runv1.RunState_RUN_STATE_PENDING, 0)}, nil
}

func (k *kennel) GetEmbeddingSet(_ context.Context, q *samplerv1.GetEmbeddingSetRequest) (*samplerv1.GetEmbeddingSetResponse, error) {
	if q.Name != "embeddings/e" {
		return nil, fault.New(fault.NotFound, "%s: there is none", q.Name)
	}
	return &samplerv1.GetEmbeddingSetResponse{Set: &samplerv1.EmbeddingSet{
		Name: q.Name, Space: "spaces/pets", PerClass: 5, Dimension: 3, Embeddings: 10, Bank: "sha256:bank",
		Classes: []*samplerv1.EmbeddingClass{{Name: "cat", Sampling: &samplerv1.Sampling{K: 7}}, {Name: "big dog", Sampling: &samplerv1.Sampling{K: 8}}},
	}}, nil
}

func (k *kennel) ListEmbeddingSets(ctx context.Context, q *samplerv1.ListEmbeddingSetsRequest) (*samplerv1.ListEmbeddingSetsResponse, error) {
	got, err := k.GetEmbeddingSet(ctx, &samplerv1.GetEmbeddingSetRequest{Name: "embeddings/e"})
	out := &samplerv1.ListEmbeddingSetsResponse{Sets: []*samplerv1.EmbeddingSet{got.GetSet()}}
	if q.PageToken == "" {
		out.NextPageToken = "2"
	}
	return out, err
}

func (k *kennel) DeleteEmbeddingSet(_ context.Context, q *samplerv1.DeleteEmbeddingSetRequest) (*samplerv1.DeleteEmbeddingSetResponse, error) {
	k.deleted = q.Name
	return &samplerv1.DeleteEmbeddingSetResponse{}, nil
}

func (k *kennel) StreamEmbeddingSet(q *samplerv1.StreamEmbeddingSetRequest, stream samplerv1.SamplerService_StreamEmbeddingSetServer) error {
	label := slices.Index([]string{"cat", "big dog"}, q.Class)
	if label < 0 {
		return fault.Invalid("class", "there is no %q", q.Class)
	}
	if q.Offset >= 5 {
		return fault.Invalid("offset", "%d; want 0 to 4", q.Offset)
	}
	var out []*samplerv1.Outlier
	for i := q.Offset; i < 5 && (q.Count == 0 || i < q.Offset+q.Count); i++ {
		v := float32(10*label) + float32(i)
		out = append(out, &samplerv1.Outlier{Class: q.Class, Index: i, Values: []float32{v, v / 7, -v}, Source: 3, Rank: 1, KthDistance: 0.5, Word: "w"})
	}
	if k.spoil != nil {
		out = k.spoil(out)
	}
	for _, o := range out {
		if err := stream.Send(&samplerv1.StreamEmbeddingSetResponse{Outlier: o}); err != nil {
			return err
		}
	}
	return nil
}

// array reads an export.
func array(t *testing.T, dir string) (data []float32, shape []int, lines []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, embeddingsName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, shape, err = npy.Read(f); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	return data, shape, strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestEmbeddingsExport(t *testing.T) {
	dir := t.TempDir()
	f := &fake{}
	f.typed(t, "embeddings", "export", "e", "--out", dir).wants(t, exitOK, "outliers.npy [2, 5, 3]", dir)
	data, shape, lines := array(t, dir)
	if !slices.Equal(shape, []int{2, 5, 3}) || data[3*3] != 3 || data[5*3] != 10 || data[9*3+1] != float32(14)/7 || len(lines) != 10 {
		t.Fatalf("%v, %v, %d lines", shape, data, len(lines))
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[7]), &line); err != nil || line["class"] != "big dog" || line["index"] != 2.0 || line["source"] != 3.0 || line["rank"] != 1.0 || line["kthDistance"] != 0.5 {
		t.Errorf("line %s, %v", lines[7], err)
	}
	if _, ok := line["values"]; ok {
		t.Errorf("the manifest repeats the values: %s", lines[7])
	}
	f.typed(t, "embeddings", "export", "e", "--out", dir).wants(t, exitUsage, "--force")
	f.typed(t, "embeddings", "export", "e", "--out", dir, "--force", "--class", "big dog", "--offset", "1", "--count", "2").wants(t, exitOK, "[1, 2, 3]")
	if data, shape, lines := array(t, dir); !slices.Equal(shape, []int{1, 2, 3}) || data[0] != 11 || data[3] != 12 || len(lines) != 2 {
		t.Errorf("%v, %v, %d lines", shape, data, len(lines))
	}
	r := f.typed(t, "embeddings", "export", "e", "--out", filepath.Join(dir, "new"), "--output", "json")
	if r.wants(t, exitOK, `"name":"embeddings/e"`); !json.Valid([]byte(r.out)) {
		t.Errorf("stdout %s", r.out)
	}
}

func TestEmbeddingsExportLeavesNothingHalf(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		spoil func([]*samplerv1.Outlier) []*samplerv1.Outlier
		code  int
		text  string
	}{
		"one less":     {nil, func(o []*samplerv1.Outlier) []*samplerv1.Outlier { return o[:len(o)-1] }, exitFailed, "in place of"},
		"none":         {nil, func([]*samplerv1.Outlier) []*samplerv1.Outlier { return nil }, exitFailed, "0 of 10"},
		"one more":     {[]string{"--class", "cat"}, func(o []*samplerv1.Outlier) []*samplerv1.Outlier { return append(o, o[0]) }, exitFailed, "too many"},
		"of a class":   {nil, func(o []*samplerv1.Outlier) []*samplerv1.Outlier { o[2].Class = "cow"; return o }, exitFailed, `of "cow"`},
		"too short":    {nil, func(o []*samplerv1.Outlier) []*samplerv1.Outlier { o[4].Values = o[4].Values[:2]; return o }, exitFailed, "missing"},
		"no class":     {[]string{"--class", "cow"}, nil, exitUsage, "--class"},
		"twice":        {[]string{"--class", "cat", "--class", "cat"}, nil, exitUsage, "given twice"},
		"beyond":       {[]string{"--offset", "5"}, nil, exitUsage, "--offset"},
		"out of order": {nil, func(o []*samplerv1.Outlier) []*samplerv1.Outlier { slices.Reverse(o); return o }, exitFailed, "embedding 4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := &fake{samples: kennel{spoil: c.spoil}}
			f.typed(t, append([]string{"embeddings", "export", "e", "--out", dir}, c.args...)...).wants(t, c.code, c.text)
			if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
				t.Error("there is a manifest")
			}
			left, _ := filepath.Glob(filepath.Join(dir, "*"+partialSuffix))
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestEmbeddingsSampleShowListDelete(t *testing.T) {
	dir := t.TempDir()
	run := succeeded()
	run.Result = "embeddings/e"
	f := &fake{streams: []func(runv1.RunService_WatchRunServer) error{events(1, nil, run)}}
	f.typed(t, "embeddings", "sample", "e", "--space", "pets", "--per-class", "5", "--class", "cat", "--class", "big dog", "--sigma", "0.1",
		"--sample-seed", "9", "--method", "inlier", "--request-id", "again", "--export", dir).wants(t, exitOK, "10 embeddings of 2 classes", "[2, 5, 3]")
	q := f.samples.asked
	if q.SetId != "e" || q.Space != "spaces/pets" || q.PerClass != 5 || !slices.Equal(q.Classes, []string{"cat", "big dog"}) || q.RequestId != "again" ||
		q.Sampling.Sigma != 0.1 || q.Sampling.Seed != 9 || q.Sampling.Method != "inlier" {
		t.Errorf("sent %v", q)
	}
	if _, shape, _ := array(t, dir); !slices.Equal(shape, []int{2, 5, 3}) {
		t.Errorf("shape %v", shape)
	}
	f.typed(t, "embeddings", "sample", "e", "--space", "pets", "--per-class", "5", "--detach", "--export", dir).wants(t, exitUsage, "--export needs to wait")
	f.typed(t, "embeddings", "show", "e").wants(t, exitOK, "spaces/pets", "cat, big dog", "120 B", "sampling of big dog", "k:8")
	f.typed(t, "embeddings", "show", "other").wants(t, exitFailed, "dreamood embeddings list")
	if r := f.typed(t, "embeddings", "list"); strings.Count(r.out, "embeddings/e") != 2 {
		t.Errorf("two pages list\n%s", r.out)
	}
	f.typed(t, "embeddings", "list", "--output", "json").wants(t, exitOK, `"perClass":5`)
	f.typed(t, "embeddings", "delete", "e").wants(t, exitOK, "embeddings/e is deleted")
	if f.samples.deleted != "embeddings/e" {
		t.Errorf("deleted %q", f.samples.deleted)
	}
}
