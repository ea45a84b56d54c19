package generator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// oneSpace is an embedder with one space of the reference model.
type oneSpace struct {
	embedderv1.UnimplementedEmbedderServiceServer
}

func (oneSpace) GetSpace(context.Context, *embedderv1.GetSpaceRequest) (*embedderv1.GetSpaceResponse, error) {
	return &embedderv1.GetSpaceResponse{Space: &embedderv1.Space{
		Name: "spaces/s", Dimension: 256, Model: "reference", Classes: []*embedderv1.SpaceClass{{Name: "cat", Word: "cat"}, {Name: "ship", Word: "ship"}},
	}}, nil
}

// live is the role behind real gRPC, with the reference model.
type live struct {
	service *Service
	client  generatorv1.GeneratorServiceClient
}

// openLive serves the role with some limits, two pictures a batch.
func openLive(t *testing.T, limits Limits) live {
	t.Helper()
	serve := func(register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
		server := rpc.NewServer(rpc.Config{DrainTimeout: 5 * time.Second}, zap.NewNop())
		register(server)
		local := rpc.NewLocal()
		server.Start(local)
		conn, err := local.Dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			conn.Close()
			server.Stop()
			<-server.Done()
		})
		return conn
	}
	embedder := serve(func(r grpc.ServiceRegistrar) { embedderv1.RegisterEmbedderServiceServer(r, oneSpace{}) })
	s, err := New(Config{Models: "../../models", Limits: limits, Pipeline: diffusion.Config{Batch: 2}}, Deps{
		Embedder: embedderv1.NewEmbedderServiceClient(embedder), Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return live{s, generatorv1.NewGeneratorServiceClient(serve(s.Register))}
}

// words asks for n pictures of a word.
func words(n, steps int) *generatorv1.RenderOutliersRequest {
	return &generatorv1.RenderOutliersRequest{
		Space: "spaces/s", Class: "ship", Count: int32(n), Source: generatorv1.Source_SOURCE_WORDS, Rendering: &generatorv1.Rendering{Steps: int32(steps)},
	}
}

// collect reads a stream to its end.
func (l live) collect(ctx context.Context, q *generatorv1.RenderOutliersRequest, each func(*generatorv1.RenderOutliersResponse)) error {
	stream, err := l.client.RenderOutliers(ctx, q)
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(r)
	}
}

// idle waits until no call is under way.
func (l live) idle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		q := l.service.queue
		q.mu.Lock()
		calls, pictures, under := q.calls, q.pictures, q.rate("reference").under+len(q.work)
		q.mu.Unlock()
		if calls == 0 {
			if pictures != 0 || under != 0 {
				t.Errorf("without calls %d pictures wait and %d batches are under way", pictures, under)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a call does not end")
		}
	}
}

// Pictures come in order as soon as their batch is decoded: the first one in a small part of the time of all. Previews
// come between, for every picture, and leave the pictures as they are.
func TestPicturesComeAsTheyAreMade(t *testing.T) {
	l := openLive(t, Limits{})
	if err := l.collect(t.Context(), words(2, 2), func(*generatorv1.RenderOutliersResponse) {}); err != nil { // loads the model
		t.Fatal(err)
	}
	const n = 20
	var first time.Duration
	var sums []string
	began := time.Now()
	err := l.collect(t.Context(), words(n, 8), func(r *generatorv1.RenderOutliersResponse) {
		if first == 0 {
			first = time.Since(began)
		}
		if r.Picture.GetRecord().GetIndex() != int32(len(sums)) {
			t.Errorf("picture %d came as number %d", r.Picture.GetRecord().GetIndex(), len(sums))
		}
		sums = append(sums, r.Picture.Record.Sha256)
	})
	all := time.Since(began)
	if err != nil || len(sums) != n {
		t.Fatalf("%d pictures, %v", len(sums), err)
	}
	t.Logf("the first of %d pictures after %s, the last after %s", n, first.Round(time.Millisecond), all.Round(time.Millisecond))
	if first > all/2 { // a tenth, on a quiet machine
		t.Errorf("the first picture took %s of %s", first, all)
	}
	q := words(4, 8)
	q.PreviewEvery = 3
	seen, pictures := map[string]int{}, 0
	err = l.collect(t.Context(), q, func(r *generatorv1.RenderOutliersResponse) {
		if v := r.Preview; v != nil {
			seen[fmt.Sprintf("%s/%d %d of %d", v.Class, v.Index, v.Step, v.Steps)]++
			if len(v.Png) == 0 || pictures > int(v.Index) {
				t.Errorf("preview of picture %d came after it", v.Index)
			}
			return
		}
		if r.Picture.Record.Sha256 != sums[pictures] {
			t.Errorf("with previews picture %d is another one", pictures)
		}
		pictures++
	})
	if err != nil || pictures != 4 || len(seen) != 8 || seen["ship/3 6 of 8"] != 1 {
		t.Errorf("%d pictures, previews %v, %v", pictures, seen, err)
	}
}

// A call that is cancelled ends the run of the U-Net under way and frees its place; so does one whose client is gone
// or whose time is up.
func TestCancelledCallsLeaveAtOnce(t *testing.T) {
	l := openLive(t, Limits{})
	began := time.Now()
	if err := l.collect(t.Context(), words(2, 20), func(*generatorv1.RenderOutliersResponse) {}); err != nil {
		t.Fatal(err)
	}
	t.Logf("a batch with loading takes %s", time.Since(began).Round(time.Millisecond))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := 0
	var asked time.Time
	q := words(1000, 990)
	q.PreviewEvery = 1
	err := l.collect(ctx, q, func(*generatorv1.RenderOutliersResponse) {
		if got++; got == 5 {
			asked = time.Now()
			cancel()
		}
	})
	if fault.ReasonOf(err) != fault.Cancelled {
		t.Errorf("a cancelled call ended with %v", err)
	}
	l.idle(t)
	took := time.Since(asked)
	t.Logf("%s from cancel to the return of the native engine", took.Round(100*time.Microsecond))
	if took > 2*time.Second { // one evaluation takes some 20 ms, a batch of 990 steps 20 s
		t.Errorf("it took %s to end", took)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	l.service.queue.rates = map[string]*rate{} // nothing is known, so nothing is refused
	err = l.collect(ctx, words(1000, 990), func(*generatorv1.RenderOutliersResponse) {})
	if fault.ReasonOf(err) != fault.DeadlineExceeded {
		t.Errorf("a call whose time is up ended with %v", err)
	}
	l.idle(t)
}

// A client that does not read holds up nobody: another one gets its pictures, and what is rendered ahead is bounded.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	l := openLive(t, Limits{Engine: 2, Waiting: 1000}) // one batch at a time
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, err := l.client.RenderOutliers(ctx, words(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Recv(); err != nil { // admitted, and then it reads nothing more
		t.Fatal(err)
	}
	parked := func() (pictures, calls int) {
		l.service.queue.mu.Lock()
		defer l.service.queue.mu.Unlock()
		return l.service.queue.pictures, l.service.queue.calls
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if pictures, calls := parked(); pictures == 0 && calls == 1 {
			break // what it has to render does not count any more
		}
		if time.Now().After(deadline) {
			t.Fatal("rendering for a client that does not read goes on and on")
		}
	}
	got := 0
	if err := l.collect(t.Context(), words(20, 1), func(*generatorv1.RenderOutliersResponse) { got++ }); err != nil || got != 20 {
		t.Errorf("beside a slow client another got %d pictures, %v", got, err)
	}
	ahead := 0
	for ; ahead < 99; ahead++ { // the slow one reads on, to the end
		if _, err := slow.Recv(); err != nil {
			t.Fatalf("after %d more pictures the slow client got %v", ahead, err)
		}
	}
	l.idle(t)
}

// Fifty clients meet a queue that is shorter: some are served, all others told when to come again, by the measured
// speed; whoever comes then and again is served.
func TestFiftyClientsOnABoundedQueue(t *testing.T) {
	l := openLive(t, Limits{Pictures: 2, Waiting: 8, Engine: 4})
	if err := l.collect(t.Context(), words(2, 4), func(*generatorv1.RenderOutliersResponse) {}); err != nil { // measures
		t.Fatal(err)
	}
	var mu sync.Mutex
	var waits []time.Duration
	served := 0
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for {
				got := 0
				err := l.collect(t.Context(), words(2, 2), func(*generatorv1.RenderOutliersResponse) { got++ })
				var f *fault.Error
				if err == nil && got == 2 {
					mu.Lock()
					served++
					mu.Unlock()
					return
				}
				if !errors.As(err, &f) || f.Reason != fault.ResourceExhausted || f.RetryAfter <= 0 || got != 0 {
					t.Errorf("a client got %d pictures and %v", got, err)
					return
				}
				mu.Lock()
				waits = append(waits, f.RetryAfter)
				mu.Unlock()
				select {
				case <-time.After(f.RetryAfter):
				case <-t.Context().Done():
					return
				}
			}
		})
	}
	clients.Wait()
	l.idle(t)
	if served != 50 || len(waits) == 0 {
		t.Fatalf("%d clients were served, %d times one was told to wait", served, len(waits))
	}
	for _, w := range waits {
		if w > 30*time.Second {
			t.Errorf("a client was told to wait %s; all take some seconds", w)
		}
	}
	if len(waits) > 500 { // about 100: whoever was told a time finds room then, more or less
		t.Errorf("50 clients were refused %d times", len(waits))
	}
	t.Logf("50 clients, %d refusals, told to wait %s at first", len(waits), waits[0].Round(time.Millisecond))
}

// A deadline that the measured speed cannot meet by far is refused at once; one that it can is not.
func TestHopelessDeadlinesAreRefused(t *testing.T) {
	l := openLive(t, Limits{})
	if err := l.collect(t.Context(), words(2, 2), func(*generatorv1.RenderOutliersResponse) {}); err != nil {
		t.Fatal(err)
	}
	l.service.queue.rates["reference"] = &rate{busy: time.Second, done: 100} // of the U-Net, a second
	for _, c := range []struct {
		steps   int
		within  time.Duration
		refused bool
	}{{990, 10 * time.Second, true}, {2, 10 * time.Second, false}} { // 40 s for two pictures, 80 ms
		ctx, cancel := context.WithTimeout(t.Context(), c.within)
		defer cancel()
		began := time.Now()
		err := l.collect(ctx, words(2, c.steps), func(*generatorv1.RenderOutliersResponse) {})
		if refused := fault.ReasonOf(err) == fault.DeadlineExceeded; refused != c.refused || refused && time.Since(began) > c.within/2 {
			t.Errorf("%d steps within %s: %v after %s", c.steps, c.within, err, time.Since(began))
		}
	}
}

// Caps name the field and the cap, all at once.
func TestLimitsNameTheFieldAndTheCap(t *testing.T) {
	l := openLive(t, Limits{Steps: 10, Guidance: 4, Prompt: 20, Pictures: 3, PerClass: 5, Edge: 16})
	q := words(4, 11)
	q.Rendering.Guidance, q.Rendering.Prompt = 5, "a photo of the very {}"
	q.PreviewEvery = -1
	err := l.collect(t.Context(), q, func(*generatorv1.RenderOutliersResponse) {})
	var f *fault.Error
	if !errors.As(err, &f) || f.Reason != fault.InvalidArgument || len(f.Violations) != 5 {
		t.Fatalf("got %v", err)
	}
	for _, v := range f.Violations {
		t.Log(v)
	}
	_, err = l.client.RenderSet(t.Context(), &generatorv1.RenderSetRequest{SetId: "x", Space: "spaces/s", PerClass: 6, Rendering: q.Rendering})
	if !errors.As(err, &f) || f.Reason != fault.InvalidArgument || len(f.Violations) != 4 {
		t.Errorf("a set got %v", err)
	}
	err = l.collect(t.Context(), &generatorv1.RenderOutliersRequest{Space: "spaces/s", Class: "cat", Count: 1, Source: generatorv1.Source_SOURCE_WORDS, Rendering: &generatorv1.Rendering{Steps: 2, Prompt: "a {}"}}, func(*generatorv1.RenderOutliersResponse) {})
	if !errors.As(err, &f) || f.Violations[0].Field != "rendering.model" {
		t.Errorf("pictures of 32 pixels where 16 are allowed: %v", err)
	}
	if err := (Limits{Steps: 2000, Pictures: 10, Waiting: 5, Guidance: 31}).Validate(); err == nil {
		t.Error("limits beyond the API are valid")
	} else {
		t.Log(err)
	}
}
