package dataset

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestDecodeAll(t *testing.T) {
	// tiny(v) is a picture of 4 pixels of one shade.
	out, err := DecodeAll(t.Context(), [][]byte{tiny(0), tiny(51), tiny(255)}, Options{Size: 4})
	if err != nil || len(out) != 3*3*4*4 {
		t.Fatalf("%d values, %v", len(out), err)
	}
	for i, want := range []float32{0, 0.2, 1} {
		if got := out[i*48]; got != want {
			t.Errorf("picture %d has red %g, want %g", i, got, want)
		}
	}
	if out, err := DecodeAll(t.Context(), nil, Options{}); err != nil || len(out) != 0 {
		t.Errorf("no pictures: %d values, %v", len(out), err)
	}
}

func TestDecodeAllNamesEveryBadPicture(t *testing.T) {
	_, err := DecodeAll(t.Context(), [][]byte{tiny(1), tiny(1)[:50], tiny(2), []byte("GIF89a"), nil}, Options{Size: 4})
	if err == nil {
		t.Fatal("bad pictures were decoded")
	}
	for _, want := range []string{"picture 1: the picture is cut off", "picture 3: the content is a GIF picture", "picture 4: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	for _, good := range []string{"picture 0", "picture 2"} {
		if strings.Contains(err.Error(), good) {
			t.Errorf("%s is good, but stands in: %v", good, err)
		}
	}
	var p Problem
	if !errors.As(err, &p) || p.Reason != Unreadable {
		t.Errorf("the first problem is %+v", p)
	}
	if _, err := DecodeAll(t.Context(), [][]byte{tiny(1)}, Options{Size: -1}); err == nil {
		t.Error("a negative size was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DecodeAll(ctx, [][]byte{tiny(1), tiny(2)}, Options{Size: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
}
