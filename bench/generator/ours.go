package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dreamood/dreamood/internal/diffusion"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	"github.com/dreamood/dreamood/services/generator"
)

// spaces is an embedder with one space, of the words that are rendered.
type spaces struct {
	embedderv1.EmbedderServiceClient
	space *embedderv1.Space
}

func (s spaces) GetSpace(context.Context, *embedderv1.GetSpaceRequest, ...grpc.CallOption) (*embedderv1.GetSpaceResponse, error) {
	return &embedderv1.GetSpaceResponse{Space: s.space}, nil
}

// server is the generator role behind a gRPC server on the loopback interface.
type server struct {
	role *generator.Service
	grpc *grpc.Server
	addr string
}

func serve(folder, model string, width int, cfg diffusion.Config) (*server, error) {
	space := &embedderv1.Space{Name: "spaces/bench", Model: model, Dimension: int32(width), Bank: "-"}
	for _, word := range words {
		space.Classes = append(space.Classes, &embedderv1.SpaceClass{Name: word, Word: word})
	}
	role, err := generator.New(generator.Config{Models: folder, Model: model, Pipeline: cfg}, generator.Deps{Embedder: spaces{space: space}, Log: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{role: role, grpc: grpc.NewServer(), addr: listener.Addr().String()}
	role.Register(s.grpc)
	go func() { _ = s.grpc.Serve(listener) }()
	return s, nil
}

func (s *server) stop() {
	s.grpc.Stop()
	_ = s.role.Close()
}

// words are classes of the reference model, which are one token each.
var words = []string{"cat", "dog", "ship", "truck", "frog", "horse", "deer", "bird"}

// render lets so many clients, each with a connection of its own, ask for one picture at the same time, and returns the
// seconds until the last has it.
func (s *server) render(ctx context.Context, clients int, r *generatorv1.Rendering) (float64, error) {
	connections := make([]*grpc.ClientConn, clients)
	for i := range connections {
		c, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close() }()
		c.Connect()
		connections[i] = c
	}
	errs := make([]error, clients)
	begin := time.Now()
	var all sync.WaitGroup
	for i, c := range connections {
		all.Go(func() { errs[i] = one(ctx, c, i, r) })
	}
	all.Wait()
	return time.Since(begin).Seconds(), errors.Join(errs...)
}

func one(ctx context.Context, c *grpc.ClientConn, i int, r *generatorv1.Rendering) error {
	stream, err := generatorv1.NewGeneratorServiceClient(c).RenderOutliers(ctx, &generatorv1.RenderOutliersRequest{
		Space: "spaces/bench", Class: words[i%len(words)], Count: 1, Offset: int32(i), Source: generatorv1.Source_SOURCE_WORDS, Rendering: r,
	})
	if err != nil {
		return err
	}
	pictures := 0
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if m.GetPicture() != nil {
			pictures++
		}
	}
	if pictures != 1 {
		return fmt.Errorf("client %d got %d pictures", i, pictures)
	}
	return nil
}
