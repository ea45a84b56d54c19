package stage

import (
	"context"
	"testing"
	"time"
)

func TestBegin(t *testing.T) {
	var heard []Part
	ctx := Listen(t.Context(), func(p Part) { heard = append(heard, p) })
	end := Begin(ctx, "denoise")
	Begin(ctx, "left open")
	if len(heard) != 0 {
		t.Fatalf("heard %v before a part ended", heard)
	}
	end(3, time.Second)
	if len(heard) != 1 || heard[0].Name != "denoise" || heard[0].Count != 3 || heard[0].Busy != time.Second || heard[0].End.Before(heard[0].Begin) {
		t.Errorf("heard %+v", heard)
	}
	Begin(t.Context(), "unheard")(1, 0)
	if len(heard) != 1 {
		t.Errorf("a part under another context was heard: %+v", heard)
	}
}

// BenchmarkUnheard is what a part costs where nobody listens.
func BenchmarkUnheard(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for b.Loop() {
		Begin(ctx, "denoise")(1, 0)
	}
}
