package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/dreamood/dreamood/internal/infer"
	"github.com/dreamood/dreamood/internal/score"
)

// Decision is how a detector decides.
type Decision struct {
	Classes   int
	Score     string  // output of the model
	Threshold float64 // pictures that score below are out of distribution
}

// Decided is what a detector says of one picture.
type Decided struct {
	Class       int
	Probability float32 // softmax, of the class
	Score       float32
	Out         bool
	More        map[string]float32 // other scores that were asked for
}

// Decide scores n pictures [n, 3, S, S], in one pass with the other scores asked for. A score that is not a number is an
// error: no decision can be made of it.
func Decide(ctx context.Context, m *infer.Model, pixels []float32, n int, d Decision, more []string) ([]Decided, error) {
	outputs := []string{"logits", d.Score}
	for _, name := range more {
		if !slices.Contains(outputs, name) {
			outputs = append(outputs, name)
		}
	}
	r, err := m.Run(ctx, pixels, outputs...)
	if err != nil {
		return nil, err
	}
	out := make([]Decided, n)
	for i := range out {
		logits := r["logits"][i*d.Classes : (i+1)*d.Classes]
		s := r[d.Score][i]
		if math.IsNaN(float64(s)) {
			return nil, fmt.Errorf("the score %s of picture %d is not a number", d.Score, i)
		}
		out[i] = Decided{
			Class: slices.Index(logits, slices.Max(logits)), Probability: float32(score.MSP(logits)), Score: s, Out: float64(s) < d.Threshold,
		}
		if len(more) > 0 {
			out[i].More = map[string]float32{}
		}
		for _, name := range more {
			out[i].More[name] = r[name][i]
		}
	}
	return out, nil
}
