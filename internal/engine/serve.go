package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/stage"
	enginev1 "github.com/dreamood/dreamood/proto/dreamood/engine/v1"
)

// Model is what the process holds: a diffusion.Pipeline.
type Model interface {
	Width() int
	Batch() int
	LatentShape() [3]int
	HasEncoder() bool
	PictureSize(context.Context) (height, width int, err error)
	SchedulerName(name string) string
	SchedulerOptions() (map[string]any, error)
	Digest() (string, error)
	PartDigests() (map[string]string, error)
	Tokens(prompt string) ([]int64, error)
	Check([]diffusion.Item, diffusion.Options) error
	Render(context.Context, []diffusion.Item, diffusion.Options) ([]diffusion.Image, error)
	Close() error
}

// Serve is the child: it serves the socket that the supervisor left as file 3 until that, or its standard input, ends.
// Either happens when the parent ends, however it does.
func Serve(open func(dir string, cfg diffusion.Config) (Model, error)) error {
	socket := os.NewFile(3, "engine")
	conn, err := net.FileConn(socket)
	if err != nil {
		return err
	}
	socket.Close()
	s := &server{open: open, models: map[string]Model{}}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.WaitForHandlers(true))
	enginev1.RegisterEngineServiceServer(g, s)
	l := newOneConn(conn)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		l.Close()
		g.Stop() // ends what is under way, and waits for it
	}()
	err = g.Serve(l)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, s.close())
}

// oneConn is a listener of one connection. It ends with it.
type oneConn struct {
	net.Conn
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newOneConn(c net.Conn) *oneConn {
	l := &oneConn{Conn: c, conns: make(chan net.Conn, 1), ended: make(chan struct{})}
	l.conns <- l
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Addr() net.Addr { return l.LocalAddr() }

// Close ends both the listener and the connection.
func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.ended) })
	return l.Conn.Close()
}

type server struct {
	enginev1.UnimplementedEngineServiceServer
	open   func(string, diffusion.Config) (Model, error)
	mu     sync.Mutex
	models map[string]Model
}

func (s *server) Hello(context.Context, *enginev1.HelloRequest) (*enginev1.HelloResponse, error) {
	return &enginev1.HelloResponse{}, nil
}

func (s *server) Open(ctx context.Context, q *enginev1.OpenRequest) (*enginev1.OpenResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[q.Dir]
	if m == nil {
		var cfg diffusion.Config
		err := unpack(q.Config, &cfg)
		if err == nil {
			m, err = s.open(q.Dir, cfg)
		}
		if err != nil {
			return nil, rpc.ToStatus(fault.New(fault.FailedPrecondition, "%w", err))
		}
		s.models[q.Dir] = m
	}
	a, err := describe(ctx, m)
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	data, err := pack(a)
	return &enginev1.OpenResponse{About: data}, err
}

func describe(ctx context.Context, m Model) (a about, err error) {
	a = about{Width: m.Width(), Batch: m.Batch(), Latents: m.LatentShape(), Encoder: m.HasEncoder(), Scheduler: m.SchedulerName("")}
	if a.Height, a.Wide, err = m.PictureSize(ctx); err != nil {
		return a, err
	}
	options, err := m.SchedulerOptions()
	if err != nil {
		return a, err
	}
	if a.Options, err = json.Marshal(options); err != nil {
		return a, err
	}
	if a.Digest, err = m.Digest(); err != nil {
		return a, err
	}
	a.Parts, err = m.PartDigests()
	return a, err
}

func (s *server) Close(_ context.Context, q *enginev1.CloseRequest) (*enginev1.CloseResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[q.Dir]
	delete(s.models, q.Dir)
	if m == nil {
		return &enginev1.CloseResponse{}, nil
	}
	return &enginev1.CloseResponse{}, rpc.ToStatus(m.Close())
}

func (s *server) model(dir string) (Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[dir]; m != nil {
		return m, nil
	}
	return nil, rpc.ToStatus(fault.New(fault.FailedPrecondition, "model %s is not open in the engine process", dir))
}

func (s *server) Check(_ context.Context, q *enginev1.CheckRequest) (*enginev1.CheckResponse, error) {
	var w work
	if err := unpack(q.Work, &w); err != nil {
		return nil, rpc.ToStatus(err)
	}
	m, err := s.model(w.Dir)
	if err != nil {
		return nil, err
	}
	if err := m.Check(w.Items, w.Options); err != nil {
		return &enginev1.CheckResponse{Problem: err.Error()}, nil
	}
	return &enginev1.CheckResponse{}, nil
}

func (s *server) Tokens(_ context.Context, q *enginev1.TokensRequest) (*enginev1.TokensResponse, error) {
	m, err := s.model(q.Dir)
	if err != nil {
		return nil, err
	}
	ids, err := m.Tokens(q.Prompt)
	return &enginev1.TokensResponse{Ids: ids}, rpc.ToStatus(err)
}

func (s *server) Render(stream enginev1.EngineService_RenderServer) error {
	q, err := stream.Recv()
	if err != nil {
		return err
	}
	var w work
	if err := unpack(q.Work, &w); err != nil {
		return rpc.ToStatus(err)
	}
	m, err := s.model(w.Dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		_, _ = stream.Recv() // ends when the client closes its side, or the stream ends
		cancel()
	}()
	t := &teller{stream: stream}
	if w.Parts {
		ctx = stage.Listen(ctx, func(p stage.Part) { t.tell(event{Part: &p}) })
	}
	if w.Preview {
		w.Options.Preview = func(p diffusion.Preview) { t.tell(event{Preview: &p}) }
	}
	if w.Save {
		w.Options.Save = t.save
	}
	w.Options.Progress = t.progress
	images, err := m.Render(ctx, w.Items, w.Options)
	if err != nil {
		t.rest()
		return rpc.ToStatus(err)
	}
	for i := range images {
		t.tell(event{Image: &images[i]})
	}
	return t.err
}

// saveEvery is the least time between two check-points that are sent; the last one is sent when the work ends early.
const saveEvery = 500 * time.Millisecond

// teller sends what happens to work. An error ends the work by way of the stream's context.
type teller struct {
	stream enginev1.EngineService_RenderServer
	mu     sync.Mutex
	err    error
	kept   *diffusion.Checkpoint // not sent
	sent   time.Time
}

func (t *teller) send(r *enginev1.RenderResponse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = t.stream.Send(r)
	}
}

func (t *teller) progress(done, total int) {
	t.send(&enginev1.RenderResponse{Done: int32(done), Total: int32(total)})
}

func (t *teller) tell(e event) {
	data, err := pack(e)
	if err != nil {
		t.mu.Lock()
		t.err = errors.Join(t.err, err)
		t.mu.Unlock()
		return
	}
	t.send(&enginev1.RenderResponse{Event: data})
}

// save is called by one goroutine.
func (t *teller) save(c diffusion.Checkpoint) {
	if t.kept = &c; time.Since(t.sent) < saveEvery {
		return
	}
	t.rest()
}

func (t *teller) rest() {
	if t.kept != nil {
		t.tell(event{Checkpoint: t.kept})
		t.kept, t.sent = nil, time.Now()
	}
}

func (s *server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, m := range s.models {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
