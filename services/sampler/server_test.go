package sampler

import (
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// banks is an embedder that streams the bank of one class, "cat", in pieces of 7 rows.
type banks struct {
	embedderv1.UnimplementedEmbedderServiceServer
	rows   matrix.Matrix
	anchor []float32
	ref    atomic.Value // string
}

func (b *banks) StreamBank(q *embedderv1.StreamBankRequest, stream embedderv1.EmbedderService_StreamBankServer) error {
	if q.Space != "spaces/pets" || !slices.Equal(q.Classes, []string{"cat"}) {
		return fault.New(fault.NotFound, "%s has no class %q", q.Space, q.Classes)
	}
	for at := 0; at < b.rows.Rows; at += 7 {
		end := min(at+7, b.rows.Rows)
		piece := &embedderv1.StreamBankResponse{
			Class: "cat", Label: 3, Offset: int32(at), Total: int32(b.rows.Rows), Dimension: int32(b.rows.Cols),
			Values: b.rows.Data[at*b.rows.Cols : end*b.rows.Cols],
		}
		if at == 0 {
			piece.Anchor, piece.Word, piece.Bank = b.anchor, "kitty", b.ref.Load().(string)
		}
		if err := stream.Send(piece); err != nil {
			return err
		}
	}
	return nil
}

// pets runs the role and an embedder with a bank of 40 rows of 16 dimensions, and an anchor of norm 2.
func pets(t *testing.T, cfg Config) (*Service, samplerv1.SamplerServiceClient, *banks) {
	t.Helper()
	e := &banks{rows: testBank(40, 16), anchor: make([]float32, 16)}
	e.anchor[5] = 2
	e.ref.Store("sha256:one")
	var s *Service
	server, local := rpc.NewServer(rpc.Config{}, zaptest.NewLogger(t)), rpc.NewLocal()
	conn, err := local.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if s, err = New(cfg, Deps{Embedder: embedderv1.NewEmbedderServiceClient(conn), Log: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	embedderv1.RegisterEmbedderServiceServer(server, e)
	s.Register(server)
	server.Start(local)
	t.Cleanup(server.Stop)
	return s, samplerv1.NewSamplerServiceClient(conn), e
}

func sample(t *testing.T, client samplerv1.SamplerServiceClient, q *samplerv1.SampleOutliersRequest) ([]*samplerv1.Outlier, error) {
	t.Helper()
	stream, err := client.SampleOutliers(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var out []*samplerv1.Outlier
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, r.Outlier)
	}
}

func TestSampleOutliers(t *testing.T) {
	_, client, e := pets(t, Config{})
	all, err := sample(t, client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 30})
	if err != nil || len(all) != 30 {
		t.Fatalf("%d outliers, %v", len(all), err)
	}
	part, err := sample(t, client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Offset: 21, Count: 5})
	if err != nil || len(part) != 5 {
		t.Fatalf("%d outliers, %v", len(part), err)
	}
	for i, o := range part {
		if !slices.Equal(o.Values, all[21+i].Values) || int(o.Index) != 21+i {
			t.Errorf("outlier %d is %v, in the longer range %v", 21+i, o, all[21+i])
		}
	}
	for i, o := range all {
		// Embeddings come with the norm of the anchor, in whose place they stand.
		if n := matrix.Norm(o.Values); math.Abs(n-2) > 1e-5 || o.Class != "cat" || o.Word != "kitty" || !(o.KthDistance > 0) {
			t.Errorf("outlier %d: norm %g, class %q, word %q, distance %g", i, n, o.Class, o.Word, o.KthDistance)
		}
		if want := o.Values[5] / 2; math.Abs(float64(o.AnchorCosine-want)) > 1e-5 {
			t.Errorf("outlier %d has cosine %g to the anchor, want %g", i, o.AnchorCosine, want)
		}
	}
	// They are what the method gives for this bank: label 3 keys the noise, and the settings are the fitted defaults.
	p := settingsOf(nil, KNN{}.Defaults().FittedTo(40, 16))
	want := collect(t, mustPrepare(t, KNN{}, e.rows, p), Range{Class: 3, Count: 30, Anchor: e.anchor})
	for i, o := range want {
		if int(all[i].Source) != o.Source || all[i].KthDistance != o.KthDistance {
			t.Errorf("outlier %d is from row %d at %g, the method's from row %d at %g", i, all[i].Source, all[i].KthDistance, o.Source, o.KthDistance)
		}
	}
}

func TestRefusalsNameTheFields(t *testing.T) {
	_, client, _ := pets(t, Config{})
	for name, c := range map[string]struct {
		q      *samplerv1.SampleOutliersRequest
		reason fault.Reason
		fields []string
	}{
		"count and offset": {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: maxCount + 1, Offset: -1}, fault.InvalidArgument, []string{"count", "offset"}},
		"nothing":          {&samplerv1.SampleOutliersRequest{}, fault.InvalidArgument, []string{"count"}},
		"no class":         {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Count: 1}, fault.InvalidArgument, []string{"class"}},
		"another class":    {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "dog", Count: 1}, fault.NotFound, nil},
		"another method": {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 1, Sampling: &samplerv1.Sampling{Method: "vos"}},
			fault.InvalidArgument, []string{"sampling.method"}},
		"settings": {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 1,
			Sampling: &samplerv1.Sampling{K: 41, Select: 42, Noises: 5, Keep: 6, Sigma: math.NaN()}},
			fault.InvalidArgument, []string{"sampling.k", "sampling.select", "sampling.keep", "sampling.sigma"}},
		"more picked than selected": {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 1,
			Sampling: &samplerv1.Sampling{Select: 5, Pick: 6}}, fault.InvalidArgument, []string{"sampling.pick"}},
	} {
		out, err := sample(t, client, c.q)
		var f *fault.Error
		var fields []string
		if errors.As(err, &f) {
			for _, v := range f.Violations {
				fields = append(fields, v.Field)
			}
		}
		if len(out) != 0 || fault.ReasonOf(err) != c.reason || !slices.Equal(fields, c.fields) {
			t.Errorf("%s: %d outliers, %v; want problems with %q", name, len(out), err, c.fields)
		}
	}
	if err := violations(errors.New("other")); fault.ReasonOf(err) != fault.InvalidArgument || !strings.Contains(err.Error(), "sampling: other") {
		t.Errorf("an error that names no fields became %v", err)
	}
}

func TestDescribeBoundary(t *testing.T) {
	_, client, _ := pets(t, Config{})
	r, err := client.DescribeBoundary(t.Context(), &samplerv1.DescribeBoundaryRequest{
		Space: "spaces/pets", Class: "cat", Sampling: &samplerv1.Sampling{Select: 6, Seed: 9},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Sampling // 40·300/500 neighbours of the paper's share, and no more picked than selected
	if s.Method != "knn" || s.K != 24 || s.Select != 6 || s.Pick != 6 || s.Seed != 9 || !(s.Sigma > 0) || s.Noises < 1 || s.Keep < 1 {
		t.Errorf("settings %v", s)
	}
	if len(r.Points) != 6 || !slices.IsSortedFunc(r.Points, func(a, b *samplerv1.BoundaryPoint) int {
		return int(math.Copysign(1, float64(b.KthDistance-a.KthDistance)))
	}) {
		t.Errorf("points %v", r.Points)
	}
	if len(r.IdQuantiles) != 7 || !slices.IsSorted(r.IdQuantiles) || r.Points[0].KthDistance != r.IdQuantiles[6] {
		t.Errorf("quantiles %v, the farthest point at %g", r.IdQuantiles, r.Points[0].KthDistance)
	}
}

func TestListMethods(t *testing.T) {
	_, client, _ := pets(t, Config{})
	r, err := client.ListMethods(t.Context(), &samplerv1.ListMethodsRequest{})
	if err != nil || len(r.Methods) != 2 || r.Methods[0].Name != "knn" || r.Methods[0].Defaults.K != 300 || r.Methods[1].Description == "" {
		t.Errorf("%v, %v", r, err)
	}
}

// TestPreparedClassesAreKept looks at what is kept after calls: one sampler for each bank and settings.
func TestPreparedClassesAreKept(t *testing.T) {
	s, client, e := pets(t, Config{Prepared: 2})
	ask := func(k int32) {
		t.Helper()
		if _, err := sample(t, client, &samplerv1.SampleOutliersRequest{
			Space: "spaces/pets", Class: "cat", Count: 1, Sampling: &samplerv1.Sampling{K: k},
		}); err != nil {
			t.Fatal(err)
		}
	}
	var ks []int
	kept := func() []int {
		ks = nil
		for _, k := range s.prepared.order {
			ks = append(ks, k.params.K)
		}
		return ks
	}
	ask(3)
	first := s.prepared.kept[s.prepared.order[0]]
	ask(3)
	ask(4)
	ask(3)
	if s.prepared.kept[s.prepared.order[1]] != first || !slices.Equal(kept(), []int{4, 3}) {
		t.Errorf("kept are %v; those with K of 3 were prepared again: %v", ks, s.prepared.kept[s.prepared.order[1]] != first)
	}
	ask(5) // the one used longest ago, 4, goes
	if !slices.Equal(kept(), []int{3, 5}) || len(s.prepared.kept) != 2 {
		t.Errorf("kept are %v", ks)
	}
	e.ref.Store("sha256:two") // the space was trained again
	ask(5)
	if !slices.Equal(kept(), []int{5, 5}) {
		t.Errorf("after another training the samplers kept are %v", ks)
	}
	own := errors.New("own")
	if _, err := s.prepared.get(key{class: "none"}, func() (Sampler, error) { return nil, own }); !errors.Is(err, own) || len(s.prepared.kept) != 2 {
		t.Errorf("an error was kept: %v", err)
	}
}
