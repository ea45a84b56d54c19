package embedder

import (
	"context"
	"fmt"
	"slices"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/npy"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// rowsPerPiece keeps a piece of a bank below 1 MiB for usual dimensions.
const rowsPerPiece = 256

// StreamBank streams the bank, class after class.
func (s *Service) StreamBank(q *embedderv1.StreamBankRequest, stream embedderv1.EmbedderService_StreamBankServer) error {
	ctx := stream.Context()
	space, err := s.spaces.Named(ctx, "space", q.Space)
	if err != nil {
		return err
	}
	for _, name := range q.Classes {
		if !slices.ContainsFunc(space.Classes, func(c *embedderv1.SpaceClass) bool { return c.Name == name }) {
			return fault.New(fault.NotFound, "space %s has no class %q; it has %s", q.Space, name, classNames(space))
		}
	}
	bank, err := s.readRows(ctx, space.Bank)
	if err != nil {
		return fmt.Errorf("bank of %s: %w", q.Space, err)
	}
	anchors, err := s.readRows(ctx, space.Anchors)
	if err != nil {
		return fmt.Errorf("anchors of %s: %w", q.Space, err)
	}
	d, first := bank.Cols, 0
	for label, class := range space.Classes {
		rows := bank.Data[first*d : (first+int(class.Count))*d]
		first += int(class.Count)
		if len(q.Classes) > 0 && !slices.Contains(q.Classes, class.Name) {
			continue
		}
		for at := 0; at < int(class.Count); at += rowsPerPiece {
			end := min(at+rowsPerPiece, int(class.Count))
			piece := &embedderv1.StreamBankResponse{
				Class: class.Name, Offset: int32(at), Total: class.Count, Dimension: int32(d), Values: rows[at*d : end*d], Label: int32(label),
			}
			if at == 0 {
				piece.Anchor, piece.Word, piece.Bank = anchors.Row(label), class.Word, space.Bank
			}
			if err := stream.Send(piece); err != nil {
				return err
			}
		}
	}
	return nil
}

func classNames(s *embedderv1.Space) []string {
	var names []string
	for _, c := range s.Classes {
		names = append(names, c.Name)
	}
	return names
}

// readRows reads a NumPy file [N, D] from the blobs.
func (s *Service) readRows(ctx context.Context, ref string) (matrix.Matrix, error) {
	file, err := s.deps.Blobs.Open(ctx, artifact.Ref(ref))
	if err != nil {
		return matrix.Matrix{}, err
	}
	defer file.Close()
	data, shape, err := npy.Read(file)
	if err != nil {
		return matrix.Matrix{}, err
	}
	if len(shape) != 2 {
		return matrix.Matrix{}, fmt.Errorf("%s has shape %v, want [N, D]", ref, shape)
	}
	return matrix.Of(data, shape[1])
}
