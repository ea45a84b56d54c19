package test

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/app"
	"github.com/dreamood/dreamood/internal/bucket/buckettest"
	"github.com/dreamood/dreamood/internal/fault"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// TestGate chooses sets with a real detector and bank, and once more in another cut and other batches by another process
// on the same data: the same pictures. Its blobs are in a bucket.
func TestGate(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for some minutes")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	training := trainingSet(t, dir)
	cfg := app.Config{Data: filepath.Join(dir, "data"), Store: buckettest.Start(t).URL("mesh"), Models: "../models", Datasets: []string{"../sample", dir}, Version: "test"}
	cfg.ShardSize, cfg.Batch = 20, 3
	conn, stop := serve(t, cfg)
	space, detector := gateModels(ctx, t, conn, training)
	refuseGates(ctx, t, conn, space)
	estimated(ctx, t, conn, space)

	measured := choose(ctx, t, conn, "measured", space, &generatorv1.Gate{Detector: detector})
	filters := gateOf(measured.pictures, detector)
	first, third := choose(ctx, t, conn, "first", space, filters), choose(ctx, t, conn, "third", space, strict(measured.pictures, detector))
	stop()
	cfg.ShardSize, cfg.Batch = 300, 0
	conn, stop = serve(t, cfg)
	defer stop()
	second, fourth := choose(ctx, t, conn, "second", space, filters), choose(ctx, t, conn, "fourth", space, third.set.Gate)

	if first.set.RunShards == second.set.RunShards {
		t.Errorf("both sets have %d shards; the cut should differ", first.set.RunShards)
	}
	compareChoices(t, first, second)
	compareChoices(t, third, fourth)
	checkChoice(t, measured, first, filters, 3)
	checkChoice(t, measured, third, third.set.Gate, 2)
	refilled := len(third.set.Shards) > third.set.RunShards
	if !refilled || third.set.Yields[0].Refused["duplicate"]+third.set.Yields[1].Refused["duplicate"] == 0 {
		t.Errorf("no duplicates were found (%v), or nothing was refilled (%d shards of %d)", third.set.Yields, len(third.set.Shards), third.set.RunShards)
	}
	none(ctx, t, conn, space)
}

// serve runs all roles on data until the end of the test or stop.
func serve(t *testing.T, cfg app.Config) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	a, err := app.New(context.Background(), cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if conn, err = a.Dial(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		conn.Close()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return conn, stop
}

// gateModels trains a space and a plain detector, quickly.
func gateModels(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, training string) (space, detector string) {
	r, err := embedderv1.NewEmbedderServiceClient(conn).TrainSpace(ctx, &embedderv1.TrainSpaceRequest{
		SpaceId: "gate", Dataset: training, Training: &embedderv1.SpaceTraining{Epochs: 2, Width: 8, BankPerClass: 60, BatchSize: 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	space = succeed(ctx, t, conn, r.Run)
	d, err := trainerv1.NewTrainerServiceClient(conn).TrainDetector(ctx, &trainerv1.TrainDetectorRequest{
		DetectorId: "gate", Dataset: training, TestDataset: sample(t, "cifar10_test.zip"),
		Training: &trainerv1.DetectorTraining{Epochs: 2, Width: 8, BatchSize: 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	return space, succeed(ctx, t, conn, d.Run)
}

func refuseGates(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, space string) {
	client := generatorv1.NewGeneratorServiceClient(conn)
	for want, gate := range map[fault.Reason]*generatorv1.Gate{
		fault.InvalidArgument: {MinConfidence: 0.5},
		fault.NotFound:        {Detector: "detectors/none"},
	} {
		_, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{SetId: "refused", Space: space, PerClass: 2, Gate: gate})
		if fault.ReasonOf(err) != want {
			t.Errorf("%v: %v, want %s", gate, err, want)
		}
	}
}

// estimated asks for the cost of a set that would take days, and starts nothing.
func estimated(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, space string) {
	client := generatorv1.NewGeneratorServiceClient(conn)
	q := &generatorv1.RenderSetRequest{SetId: "dry", Space: space, PerClass: 10_000, Rendering: &generatorv1.Rendering{Steps: 25, Scheduler: "ddim"},
		Gate: &generatorv1.Gate{MaxAttempts: 3}, ValidateOnly: true}
	r, err := client.RenderSet(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	e := r.Estimate
	if r.Run != nil || e.Pictures != 100_000 || e.MostRendered != 300_000 || e.UnetEvaluations != 100_000*25*2 || e.Shards < 1 || e.Basis == "" ||
		e.Time.AsDuration() != 100_000*e.PerPicture.AsDuration() || e.PerPicture.AsDuration() <= 0 || e.Bytes < 100_000*500 || e.FreeBytes != nil {
		t.Errorf("%v", r)
	}
	t.Logf("estimate: %v", e)
	if _, err := client.GetSet(ctx, &generatorv1.GetSetRequest{Name: "sets/dry"}); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("a dry run left a set: %v", err)
	}
	q.SetId = "No Name"
	if _, err := client.RenderSet(ctx, q); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a dry run of a bad request: %v", err)
	}
}

// choice is a set with a gate.
type choice struct {
	set struct {
		*generatorv1.Set
		RunShards int
	}
	pictures, refused []*generatorv1.Picture
}

func choose(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, id, space string, gate *generatorv1.Gate) (c choice) {
	t.Helper()
	client := generatorv1.NewGeneratorServiceClient(conn)
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{
		SetId: id, Space: space, PerClass: 36, Classes: []string{"ship", "cat"}, Rendering: &generatorv1.Rendering{Steps: 2}, Gate: gate,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.set.RunShards = int(r.Run.Shards)
	name := succeed(ctx, t, conn, r.Run)
	g, err := client.GetSet(ctx, &generatorv1.GetSetRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	c.set.Set = g.Set
	c.pictures, c.refused = stream(ctx, t, client, name, false), stream(ctx, t, client, name, true)
	return c
}

func stream(ctx context.Context, t *testing.T, client generatorv1.GeneratorServiceClient, set string, refused bool) (list []*generatorv1.Picture) {
	t.Helper()
	s, err := client.StreamSet(ctx, &generatorv1.StreamSetRequest{Name: set, Refused: refused})
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Picture.Record.Shard = nil
		list = append(list, r.Picture)
	}
}

// gateOf chooses filters by what was measured, so that each of them refuses some and not all.
func gateOf(measured []*generatorv1.Picture, detector string) *generatorv1.Gate {
	var confidence, quantile []float64
	for _, p := range measured {
		confidence = append(confidence, float64(p.Record.Judgement.Confidence))
		quantile = append(quantile, float64(p.Record.Judgement.BankQuantile))
	}
	slices.Sort(confidence)
	slices.Sort(quantile)
	n := len(measured)
	return &generatorv1.Gate{
		Detector: detector, MinConfidence: confidence[n/8], MaxConfidence: confidence[n-1-n/8], LeakConfidence: confidence[n/2],
		LeakQuantile: min(quantile[n/8], 0.9), DuplicateBits: proto.Int32(12), MaxAttempts: 3,
	}
}

// strict takes pictures that are far from each other for duplicates, so that blocks run dry and are filled up from others.
func strict(measured []*generatorv1.Picture, detector string) *generatorv1.Gate {
	g := gateOf(measured, detector)
	return &generatorv1.Gate{Detector: detector, LeakQuantile: g.LeakQuantile, DuplicateBits: proto.Int32(23), MaxAttempts: 4}
}

// compareChoices holds that two sets are the same, with everything that is said of them.
func compareChoices(t *testing.T, a, b choice) {
	t.Helper()
	byFile := func(list []*generatorv1.Picture) map[string]string {
		m := map[string]string{}
		for _, p := range list {
			line, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.Record)
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := m[p.Record.File]; twice {
				t.Errorf("%s is there twice", p.Record.File)
			}
			m[p.Record.File] = string(line)
		}
		return m
	}
	x, y := byFile(a.pictures), byFile(b.pictures)
	if !maps.Equal(x, y) {
		t.Errorf("the sets differ: %d and %d pictures", len(x), len(y))
	}
	for i := range a.set.Yields {
		if !proto.Equal(a.set.Yields[i], b.set.Yields[i]) {
			t.Errorf("the yields differ: %v and %v", a.set.Yields[i], b.set.Yields[i])
		}
	}
}

// checkChoice holds a set against its gate, and against the pictures that were measured without one.
func checkChoice(t *testing.T, measured, c choice, gate *generatorv1.Gate, kinds int) {
	t.Helper()
	t.Logf("gate %v", gate)
	known := map[string]string{}
	for _, p := range measured.pictures {
		known[p.Record.File] = p.Record.Sha256
	}
	counts, same := map[string]int{}, 0
	hashes := map[string][]uint64{}
	for _, p := range c.pictures {
		j := p.Record.Judgement
		counts[p.Record.Class]++
		if j.Refused != "" || float64(j.Confidence) < gate.MinConfidence-1e-7 || float64(j.Confidence) > gate.MaxConfidence+1e-7 ||
			j.Class == p.Record.Class && float64(j.Confidence) > gate.LeakConfidence+1e-7 || float64(j.BankQuantile) < gate.LeakQuantile-1e-7 {
			t.Errorf("%s was taken: %v", p.Record.File, j)
		}
		hash, err := strconv.ParseUint(j.Hash, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range hashes[p.Record.Class] {
			if d := bits.OnesCount64(hash ^ other); d <= int(*gate.DuplicateBits) {
				t.Errorf("%s is %d bits from another picture of its class", p.Record.File, d)
			}
		}
		hashes[p.Record.Class] = append(hashes[p.Record.Class], hash)
		if sha, ok := known[p.Record.File]; ok {
			if same++; sha != p.Record.Sha256 {
				t.Errorf("%s is another picture than without filters", p.Record.File)
			}
		}
	}
	if same == 0 {
		t.Error("no picture of the measured set was taken")
	}
	total, reasons := int32(0), map[string]int32{}
	for _, y := range c.set.Yields {
		t.Logf("yield %v", y)
		refused := int32(0)
		for reason, n := range y.Refused {
			reasons[reason] += n
			refused += n
		}
		total += y.Taken
		if int(y.Taken) != counts[y.Class] || y.Tried != y.Taken+refused || y.Limit != gate.MaxAttempts*36 || y.Taken > y.Wanted || y.Taken < y.Wanted && y.Tried != y.Limit {
			t.Errorf("%s: %d pictures, yield %v", y.Class, counts[y.Class], y)
		}
	}
	if c.set.Pictures != total || int(total) != len(c.pictures) {
		t.Errorf("the set says %d pictures, its yields %d, it has %d", c.set.Pictures, total, len(c.pictures))
	}
	examples := map[string]int{}
	for _, p := range c.refused {
		if examples[p.Record.Judgement.Refused]++; p.Record.Judgement.Refused == "" || len(p.Png) == 0 {
			t.Errorf("%s is shown as refused: %v", p.Record.File, p.Record.Judgement)
		}
	}
	for reason := range reasons {
		if examples[reason] == 0 {
			t.Errorf("%d pictures were refused as %s, and none is shown", reasons[reason], reason)
		}
	}
	if len(reasons) < kinds {
		t.Errorf("only %v refused anything", reasons)
	}
}

// none asks for what no candidate is: the run fails and says why.
func none(ctx context.Context, t *testing.T, conn grpc.ClientConnInterface, space string) {
	client := generatorv1.NewGeneratorServiceClient(conn)
	r, err := client.RenderSet(ctx, &generatorv1.RenderSetRequest{
		SetId: "none", Space: space, PerClass: 3, Classes: []string{"dog"}, Rendering: &generatorv1.Rendering{Steps: 1}, Gate: &generatorv1.Gate{MinContrast: 127, MaxAttempts: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	run := wait(ctx, t, conn, r.Run)
	if want := "the gate refused all 6 candidates: blank 6"; run.Failure == nil || !strings.Contains(run.Failure.Message, want) {
		t.Errorf("the run ended as %v, %v; want %q", run.State, run.Failure, want)
	}
}
