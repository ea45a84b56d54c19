package embedder

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bus"
	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/rpc"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
)

// serve runs the role's gRPC face on a real catalog and real blobs, with a space of three classes of two dimensions:
// more than one piece, exactly one and less.
func serve(t *testing.T) (*Service, embedderv1.EmbedderServiceClient) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	documents, err := catalog.New(t.Context(), b.JetStream(), catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := artifact.NewFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := zaptest.NewLogger(t)
	s, err := New(Config{}, Deps{Catalog: documents, Blobs: blobs, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	server, local := rpc.NewServer(rpc.Config{}, log), rpc.NewLocal()
	s.Register(server)
	server.Start(local)
	t.Cleanup(server.Stop)
	conn, err := local.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	keepSpace(t, s)
	return s, embedderv1.NewEmbedderServiceClient(conn)
}

var counts = map[string]int{"ant": 2*rowsPerPiece + 1, "bee": rowsPerPiece, "cow": 3}

func keepSpace(t *testing.T, s *Service) {
	t.Helper()
	space := &embedderv1.Space{Name: "spaces/farm", Dimension: 2}
	var bank []float32 // row i is [i, label]
	for label, name := range []string{"ant", "bee", "cow"} {
		for range counts[name] {
			bank = append(bank, float32(len(bank)/2), float32(label))
		}
		space.Classes = append(space.Classes, &embedderv1.SpaceClass{Name: name, Word: name + "s", Count: int32(counts[name])})
	}
	put := func(data []float32) string {
		m, err := matrix.Of(data, 2)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := s.putRows(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return string(ref)
	}
	space.Bank, space.Anchors = put(bank), put([]float32{0, 10, 1, 11, 2, 12})
	if err := s.spaces.Settle(t.Context(), space, func(*embedderv1.Space) bool { return false }); err != nil {
		t.Fatal(err)
	}
}

func TestStreamBankGivesEveryRowOnce(t *testing.T) {
	_, client := serve(t)
	for _, classes := range [][]string{nil, {"bee"}, {"cow", "ant"}} {
		stream, err := client.StreamBank(t.Context(), &embedderv1.StreamBankRequest{Space: "spaces/farm", Classes: classes})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][]float32{}
		for {
			p, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if at := len(got[p.Class]) / 2; int(p.Offset) != at || int(p.Total) != counts[p.Class] || p.Dimension != 2 || len(p.Values) > 2*rowsPerPiece {
				t.Errorf("%v: piece of %s at %d of %d with %d values, after %d rows", classes, p.Class, p.Offset, p.Total, len(p.Values), at)
			}
			if first := len(got[p.Class]) == 0; first != (p.Word == p.Class+"s") || first != slices.Equal(p.Anchor, []float32{float32(p.Label), float32(p.Label) + 10}) || first != (p.Bank != "") {
				t.Errorf("%v: piece of %s at %d has word %q, anchor %v, bank %q", classes, p.Class, p.Offset, p.Word, p.Anchor, p.Bank)
			}
			got[p.Class] = append(got[p.Class], p.Values...)
		}
		if len(classes) == 0 {
			classes = []string{"ant", "bee", "cow"}
		}
		if len(got) != len(classes) {
			t.Errorf("asked for %v, got %d classes", classes, len(got))
		}
		first := map[string]int{"ant": 0, "bee": counts["ant"], "cow": counts["ant"] + counts["bee"]}
		for label, class := range []string{"ant", "bee", "cow"} {
			for i := range len(got[class]) / 2 {
				if v := got[class][2*i:]; v[0] != float32(first[class]+i) || v[1] != float32(label) {
					t.Fatalf("row %d of %s is %v", i, class, v[:2])
				}
			}
			if slices.Contains(classes, class) && len(got[class]) != 2*counts[class] {
				t.Errorf("%v: %d values of %s", classes, len(got[class]), class)
			}
		}
	}
}

func TestStreamBankRefuses(t *testing.T) {
	s, client := serve(t)
	for _, c := range []struct {
		space  string
		class  string
		reason fault.Reason
		says   string
	}{
		{"farm", "", fault.InvalidArgument, "spaces/"},
		{"spaces/none", "", fault.NotFound, "spaces/none"},
		{"spaces/farm", "cat", fault.NotFound, "[ant bee cow]"},
	} {
		q := &embedderv1.StreamBankRequest{Space: c.space}
		if c.class != "" {
			q.Classes = []string{c.class}
		}
		stream, err := client.StreamBank(t.Context(), q)
		if err == nil {
			_, err = stream.Recv()
		}
		if fault.ReasonOf(err) != c.reason || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", q, err)
		}
	}
	// A blob of another shape than [N, D].
	ref, err := artifact.PutBytes(t.Context(), s.deps.Blobs, []byte("no array"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.readRows(t.Context(), string(ref)); err == nil || !strings.Contains(err.Error(), "not a NumPy file") {
		t.Errorf("a blob that is no array: %v", err)
	}
}

func TestGetSpaceHasItsAnchorsAndListsLeaveThemOut(t *testing.T) {
	_, client := serve(t)
	r, err := client.GetSpace(t.Context(), &embedderv1.GetSpaceRequest{Name: "spaces/farm"})
	if err != nil || !slices.Equal(r.Space.Classes[1].Anchor, []float32{1, 11}) {
		t.Fatalf("%v, %v", r, err)
	}
	list, err := client.ListSpaces(t.Context(), &embedderv1.ListSpacesRequest{})
	if err != nil || len(list.Spaces) != 1 || list.Spaces[0].Classes[1].Anchor != nil {
		t.Fatalf("%v, %v", list, err)
	}
	for range 2 {
		_, err = client.DeleteSpace(t.Context(), &embedderv1.DeleteSpaceRequest{Name: "spaces/farm"})
	}
	if _, gone := client.GetSpace(t.Context(), &embedderv1.GetSpaceRequest{Name: "spaces/farm"}); fault.ReasonOf(gone) != fault.NotFound || fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("deleted twice: %v, then: %v", err, gone)
	}
}
