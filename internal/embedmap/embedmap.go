// Package embedmap draws maps of embeddings: ID points and what was sampled around them, in the plane, as an SVG that
// stands for itself.
package embedmap

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/project"
)

// Methods are the ways to lay embeddings out.
var Methods = []string{"tsne", "pca"}

// perplexity is scikit-learn's default; of fewer than 91 points it is a third.
const perplexity = 30

// Lay lays rows [N, D], N at least 5, out in the plane by one of [Methods]: coordinates [N], and how they came about in
// words.
func Lay(ctx context.Context, method string, rows matrix.Matrix) (xy [][2]float64, how string, err error) {
	switch method {
	case "tsne":
		near := min(perplexity, float64(rows.Rows-1)/3)
		xy, divergence, err := TSNE(ctx, rows, near)
		return xy, fmt.Sprintf("t-SNE, perplexity %.0f, KL divergence %.2f", near, divergence), err
	case "pca":
		xy, explained, err := project.PCA2(rows)
		return xy, fmt.Sprintf("principal components, %.1f %% and %.1f %% of the variance", 100*explained[0], 100*explained[1]), err
	}
	return nil, "", fmt.Errorf("no map %q; there are %s", method, strings.Join(Methods, ", "))
}

// Colour is the colour of class i on white: Okabe and Ito's, for colour vision of every kind, without the yellow, then
// a violet, a brown and an olive. Beyond the tenth the hue moves by the golden angle.
func Colour(i int) string {
	first := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#8b5a2b", "#444444", "#a39100"}
	if i < len(first) {
		return first[i]
	}
	return fmt.Sprintf("hsl(%.0f 65%% 42%%)", math.Mod(float64(i)*137.508, 360))
}
