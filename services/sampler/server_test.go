package sampler

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
)

// kennel is an embedder of the space "pets": "cat" with label 1 between "ant" and "dog". It streams banks in pieces of 7
// rows and counts how often.
type kennel struct {
	embedderv1.UnimplementedEmbedderServiceServer
	banks   [3]matrix.Matrix
	anchor  []float32    // of cat
	ref     atomic.Value // string
	next    atomic.Value // string; the bank that is streamed next, where it is another one than ref
	streams atomic.Int32
}

var pet = []string{"ant", "cat", "dog"}

func (e *kennel) GetSpace(_ context.Context, q *embedderv1.GetSpaceRequest) (*embedderv1.GetSpaceResponse, error) {
	if q.Name != "spaces/pets" {
		return nil, fault.New(fault.NotFound, "there is no %s", q.Name)
	}
	s := &embedderv1.Space{Name: q.Name, Dimension: int32(e.banks[0].Cols), Bank: e.ref.Load().(string), Anchors: "sha256:anchors"}
	for label, name := range pet {
		anchor := make([]float32, s.Dimension)
		anchor[label] = 1
		if name == "cat" {
			anchor = e.anchor
		}
		s.Classes = append(s.Classes, &embedderv1.SpaceClass{Name: name, Word: "a " + name, Count: int32(e.banks[label].Rows), Anchor: anchor})
	}
	return &embedderv1.GetSpaceResponse{Space: s}, nil
}

func (e *kennel) StreamBank(q *embedderv1.StreamBankRequest, stream embedderv1.EmbedderService_StreamBankServer) error {
	e.streams.Add(1)
	ref := e.ref.Load().(string)
	if next, _ := e.next.Swap("").(string); next != "" {
		ref = next
		e.ref.Store(next)
	}
	for label, m := range e.banks {
		if len(q.Classes) > 0 && !slices.Contains(q.Classes, pet[label]) {
			continue
		}
		for at := 0; at < m.Rows; at += 7 {
			end := min(at+7, m.Rows)
			piece := &embedderv1.StreamBankResponse{
				Class: pet[label], Label: int32(label), Offset: int32(at), Total: int32(m.Rows), Dimension: int32(m.Cols),
				Values: m.Data[at*m.Cols : end*m.Cols],
			}
			if at == 0 {
				piece.Bank = ref
			}
			if err := stream.Send(piece); err != nil {
				return err
			}
		}
	}
	return nil
}

// pets runs the role and an embedder with banks of 16 dimensions, 40 rows for cat, and an anchor of norm 2 for it. The
// banks of ant and dog lie on the other side of the origin.
func pets(t *testing.T, cfg Config) (*Service, samplerv1.SamplerServiceClient, *kennel) {
	t.Helper()
	e := &kennel{banks: [3]matrix.Matrix{testBank(25, 16), testBank(40, 16), testBank(10, 16)}, anchor: make([]float32, 16)}
	for _, other := range []int{0, 2} {
		for i := range e.banks[other].Data {
			e.banks[other].Data[i] *= -1
		}
	}
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
	out, _, err := reported(t, client, q)
	return out, err
}

// reported is the samples of a stream and the report at its end.
func reported(t *testing.T, client samplerv1.SamplerServiceClient, q *samplerv1.SampleOutliersRequest) ([]*samplerv1.Outlier, *samplerv1.SamplingReport, error) {
	t.Helper()
	stream, err := client.SampleOutliers(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var out []*samplerv1.Outlier
	var report *samplerv1.SamplingReport
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, report, nil
		}
		if err != nil {
			return out, nil, err
		}
		if report != nil || (r.Outlier == nil) == (r.Report == nil) {
			t.Fatalf("after %d samples and the report %v came %v", len(out), report, r)
		}
		if report = r.Report; r.Outlier != nil {
			out = append(out, r.Outlier)
		}
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
		if n := matrix.Norm(o.Values); math.Abs(n-2) > 1e-5 || o.Class != "cat" || o.Word != "a cat" || !(o.KthDistance > 0) {
			t.Errorf("outlier %d: norm %g, class %q, word %q, distance %g", i, n, o.Class, o.Word, o.KthDistance)
		}
		if want := o.Values[5] / 2; math.Abs(float64(o.AnchorCosine-want)) > 1e-5 {
			t.Errorf("outlier %d has cosine %g to the anchor, want %g", i, o.AnchorCosine, want)
		}
	}
	// They are what the method gives for this bank: label 1 keys the noise, and the settings are the fitted defaults.
	p := ParamsOf(nil, KNN{}.Defaults().FittedTo(40, 16))
	want := collect(t, mustPrepare(t, KNN{}, e.banks[1], p), Range{Class: 1, Count: 30, Anchor: e.anchor})
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
		"count and offset": {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: MaxCount + 1, Offset: -1}, fault.InvalidArgument, []string{"count", "offset"}},
		"nothing":          {&samplerv1.SampleOutliersRequest{}, fault.InvalidArgument, []string{"count"}},
		"no names":         {&samplerv1.SampleOutliersRequest{Count: 1}, fault.InvalidArgument, []string{"space", "class"}},
		"another space":    {&samplerv1.SampleOutliersRequest{Space: "spaces/zoo", Class: "cat", Count: 1}, fault.NotFound, nil},
		"past the end":     {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 1, Offset: math.MaxInt32}, fault.InvalidArgument, []string{"offset"}},
		"no class":         {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Count: 1}, fault.InvalidArgument, []string{"class"}},
		"another class":    {&samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "eel", Count: 1}, fault.NotFound, nil},
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
	own := errors.New("other")
	if err := Violations(own); !errors.Is(err, own) {
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
	if err != nil || len(r.Methods) != len(Methods()) || r.Methods[0].Name != "knn" || r.Methods[0].Defaults.K != 300 || r.Methods[1].Description == "" {
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
	if n := e.streams.Load(); n != 2 { // the class to prepare it, and the space to compare with
		t.Errorf("the first request streamed %d banks", n)
	}
	ask(3)
	if n := e.streams.Load(); n != 2 {
		t.Errorf("a request for what was kept streamed %d banks", n-2)
	}
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
	if _, err := s.prepared.get(key{class: "none"}, func() (ready, error) { return ready{}, own }); !errors.Is(err, own) || len(s.prepared.kept) != 2 {
		t.Errorf("an error was kept: %v", err)
	}
}

func TestReport(t *testing.T) {
	_, client, e := pets(t, Config{})
	q := &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 60}
	out, r, err := reported(t, client, q)
	if err != nil || r == nil {
		t.Fatalf("report %v, %v", r, err)
	}
	var distances []float32
	sources, beyond := map[int32]bool{}, 0
	for _, o := range out {
		distances = append(distances, o.KthDistance)
		sources[o.Source] = true
		if o.KthDistance > r.IdQuantiles[6] {
			beyond++
		}
	}
	if r.Class != "cat" || r.BankSize != 40 || r.BoundarySize != 40 || r.Samples != 60 || int(r.Sources) != len(sources) || r.ForeignSamples != 60 || r.Sampling.K != 24 {
		t.Errorf("report %v", r)
	}
	if r.SampleQuantiles[0] != slices.Min(distances) || r.SampleQuantiles[6] != slices.Max(distances) || math.Abs(float64(r.BeyondId)-float64(beyond)/60) > 1e-6 {
		t.Errorf("quantiles %v, %v beyond ID; the samples have %v to %v, %d beyond", r.SampleQuantiles, r.BeyondId, slices.Min(distances), slices.Max(distances), beyond)
	}
	// Against the definition: the nearest ID embedding over all classes.
	var samples []Outlier
	for _, o := range out {
		samples = append(samples, Outlier{Embedding: halved(o.Values)})
	}
	if want, err := ForeignShare(t.Context(), e.banks[:], 1, samples); err != nil || math.Abs(float64(r.Foreign)-want) > 1e-6 {
		t.Errorf("%v of the samples are foreign, want %v, %v", r.Foreign, want, err)
	}
	q.WithoutReport = true
	if out, r, err := reported(t, client, q); err != nil || r != nil || len(out) != 60 {
		t.Errorf("without a report: %d samples, %v, %v", len(out), r, err)
	}
}

// halved undoes the norm of the anchor.
func halved(values []float32) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = v / 2
	}
	return out
}

// TestSpaceTooLargeToKeep streams the banks past, and finds the same.
func TestSpaceTooLargeToKeep(t *testing.T) {
	_, keeps, _ := pets(t, Config{})
	s, streams, e := pets(t, Config{BankBytes: 100})
	q := &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 50, Sampling: &samplerv1.Sampling{Sigma: 3}}
	_, want, err := reported(t, keeps, q)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		_, got, err := reported(t, streams, q)
		if err != nil || !proto.Equal(got, want) || want.Foreign == 0 {
			t.Fatalf("report %v, want %v, %v", got, want, err)
		}
		if n := int(e.streams.Load()); n != 2+i || len(s.spaces.kept) != 0 {
			t.Errorf("%d streams, %d spaces kept", n, len(s.spaces.kept))
		}
	}
}

// TestTrainedAgainBetweenTwoCalls: the space's document still names the old bank when the new one is streamed.
func TestTrainedAgainBetweenTwoCalls(t *testing.T) {
	s, client, e := pets(t, Config{})
	e.next.Store("sha256:two")
	out, err := sample(t, client, &samplerv1.SampleOutliersRequest{Space: "spaces/pets", Class: "cat", Count: 3})
	if err != nil || len(out) != 3 || s.prepared.order[0].bank != "sha256:two" {
		t.Errorf("%d samples, %v, kept %v", len(out), err, s.prepared.order)
	}
}

func TestBanksKeptAreBounded(t *testing.T) {
	b := newBanks(4 * 25)
	one := []matrix.Matrix{matrix.New(2, 5)}
	b.keep("a", one)
	b.keep("b", one)
	b.find("a")
	b.keep("c", one) // b was used longest ago
	b.keep("d", []matrix.Matrix{matrix.New(6, 5)})
	if b.find("a") == nil || b.find("b") != nil || b.find("c") == nil || b.find("d") != nil {
		t.Errorf("kept are %v", b.order)
	}
}

// TestSettingsSurviveTheWire for every method: what a report says can be asked for again.
func TestSettingsSurviveTheWire(t *testing.T) {
	for _, m := range Methods() {
		p := m.Defaults().FittedTo(40, 16)
		p.Seed = 5
		if m.Defaults().Steps > 0 {
			p.Beyond = 0 // set, not left out
		}
		if got := ParamsOf(Message(m.Name(), p), m.Defaults()); got != p {
			t.Errorf("%s: %+v became %+v", m.Name(), p, got)
		}
	}
	beyond := int32(3)
	q := &samplerv1.Sampling{Mode: "reference", Alpha: 0.5, Steps: 7, Beyond: &beyond, Lower: 0.1, Upper: 0.2}
	if p := ParamsOf(q, Params{}); p.Mode != "reference" || p.Alpha != 0.5 || p.Steps != 7 || p.Beyond != 3 || p.Lower != 0.1 || p.Upper != 0.2 || p.Seed != 1 {
		t.Errorf("settings %+v", p)
	}
}
