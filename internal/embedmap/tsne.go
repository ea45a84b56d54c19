package embedmap

import (
	"context"
	"fmt"
	"math"

	"github.com/dreamood/dreamood/internal/matrix"
	"github.com/dreamood/dreamood/internal/project"
)

// MaxPoints bounds the points of a t-SNE: its time and memory grow with their square.
const MaxPoints = 5000

// The schedule of scikit-learn's t-SNE, which is that of the paper with a learning rate that grows with N.
const (
	exploring    = 250 // iterations with attraction enlarged and little momentum
	iterations   = 1000
	exaggeration = 12
)

// TSNE lays rows [N, D] out in the plane so that near ones stay near: exact t-SNE (van der Maaten and Hinton, "Visualizing
// Data using t-SNE", JMLR 9, 2008), begun from the principal components, so the same rows give the same map. It returns
// coordinates [N] and the Kullback-Leibler divergence that is left. perplexity is about the number of neighbours that
// count, above 1 and at most (N−1)/3.
func TSNE(ctx context.Context, rows matrix.Matrix, perplexity float64) (xy [][2]float64, divergence float64, err error) {
	n := rows.Rows
	if n < 5 || n > MaxPoints {
		return nil, 0, fmt.Errorf("t-SNE of %d points; 5 to %d are possible", n, MaxPoints)
	}
	if !(perplexity > 1) || perplexity > float64(n-1)/3 {
		return nil, 0, fmt.Errorf("perplexity %g for %d points; it must be above 1 and at most %g", perplexity, n, float64(n-1)/3)
	}
	start, _, err := project.PCA2(rows)
	if err != nil {
		return nil, 0, err
	}
	var square float64
	for _, p := range start {
		square += p[0] * p[0]
	}
	scale := 1e-4 / math.Sqrt(square/float64(n))
	y := make([]float64, 2*n)
	for i, p := range start {
		y[2*i], y[2*i+1] = p[0]*scale, p[1]*scale
	}
	d := newDescent(affinities(rows, perplexity), y)
	for i := range iterations {
		if err := context.Cause(ctx); err != nil {
			return nil, 0, err
		}
		if i < exploring {
			d.step(exaggeration, 0.5)
			continue
		}
		if i == exploring {
			d.rest()
		}
		d.step(1, 0.8)
	}
	xy = make([][2]float64, n)
	for i := range xy {
		xy[i] = [2]float64{y[2*i], y[2*i+1]}
	}
	return xy, d.divergence(), nil
}

// affinities are the symmetric joint probabilities p[i·N+j] of section 2 of the paper: Gaussian around every point, as
// wide as the perplexity asks.
func affinities(rows matrix.Matrix, perplexity float64) []float64 {
	n := rows.Rows
	p := make([]float64, n*n)
	squares := make([]float64, n)
	for i := range n {
		squares[i] = matrix.Dot(rows.Row(i), rows.Row(i))
	}
	matrix.Each(n, 0, func(i int) {
		row := p[i*n : (i+1)*n]
		for j := range row {
			row[j] = max(0, squares[i]+squares[j]-2*matrix.Dot(rows.Row(i), rows.Row(j)))
		}
		condition(row, i, math.Log(perplexity))
	})
	for i := range n {
		for j := range i {
			both := max((p[i*n+j]+p[j*n+i])/float64(2*n), smallest)
			p[i*n+j], p[j*n+i] = both, both
		}
		p[i*n+i] = 0
	}
	return p
}

// smallest keeps logarithms of probabilities finite.
const smallest = 2.220446049250313e-16

// condition turns the squared distances of point own to all into conditional probabilities of the given entropy, in
// nats, by bisection on the precision of the Gaussian.
func condition(row []float64, own int, entropy float64) {
	nearest := math.Inf(1)
	for j, d := range row {
		if j != own {
			nearest = min(nearest, d)
		}
	}
	weights := make([]float64, len(row))
	low, beta, high := 0.0, 1.0, math.Inf(1)
	for range 100 {
		var sum, weighted float64
		for j, d := range row {
			weights[j] = 0
			if j != own {
				weights[j] = math.Exp(-beta * (d - nearest))
			}
			sum += weights[j]
			weighted += weights[j] * (d - nearest)
		}
		for j := range weights {
			weights[j] /= sum
		}
		got := math.Log(sum) + beta*weighted/sum
		if math.Abs(got-entropy) < 1e-7 {
			break
		}
		if got > entropy {
			low = beta
		} else {
			high = beta
		}
		if beta = (low + high) / 2; math.IsInf(high, 1) {
			beta = 2 * low
		}
	}
	copy(row, weights)
}

// descent is gradient descent with momentum and a gain for every coordinate (section 3.4 of the paper).
type descent struct {
	p, y            []float64 // [N·N], [N·2]
	gradient, moved []float64 // [N·2]
	gains           []float64
	rate            float64
	sums            []float64 // [N], of every row of the Student weights
	pull, push      []float64 // [N·2]
}

func newDescent(p, y []float64) *descent {
	n := len(y)
	d := &descent{p: p, y: y, gradient: make([]float64, n), moved: make([]float64, n), gains: make([]float64, n), sums: make([]float64, n/2),
		pull: make([]float64, n), push: make([]float64, n), rate: max(float64(n)/2/exaggeration/4, 50)}
	d.rest()
	return d
}

// rest takes all momentum and gains away.
func (d *descent) rest() {
	clear(d.moved)
	for i := range d.gains {
		d.gains[i] = 1
	}
}

// step moves all points once. Its sums have a fixed order, whatever the number of workers.
func (d *descent) step(exaggeration, momentum float64) {
	n := len(d.sums)
	matrix.Each(n, 0, func(i int) {
		x0, x1 := d.y[2*i], d.y[2*i+1]
		var sum, pull0, pull1, push0, push1 float64
		p := d.p[i*n : (i+1)*n]
		for j := range p {
			d0, d1 := x0-d.y[2*j], x1-d.y[2*j+1]
			q := 1 / (1 + d0*d0 + d1*d1)
			sum += q
			pull := p[j] * q
			pull0 += pull * d0
			pull1 += pull * d1
			push0 += q * q * d0
			push1 += q * q * d1
		}
		d.sums[i] = sum - 1 // the point itself
		d.pull[2*i], d.pull[2*i+1], d.push[2*i], d.push[2*i+1] = pull0, pull1, push0, push1
	})
	z := d.total()
	for i := range d.y {
		d.gradient[i] = 4 * (exaggeration*d.pull[i] - d.push[i]/z)
		if d.moved[i]*d.gradient[i] < 0 {
			d.gains[i] += 0.2
		} else {
			d.gains[i] = max(0.8*d.gains[i], 0.01)
		}
		d.moved[i] = momentum*d.moved[i] - d.rate*d.gains[i]*d.gradient[i]
	}
	for i := range d.y {
		d.y[i] += d.moved[i]
	}
}

func (d *descent) total() (z float64) {
	for _, s := range d.sums {
		z += s
	}
	return z
}

// divergence is the Kullback-Leibler divergence of the plane from the embeddings, equation 2 of the paper.
func (d *descent) divergence() float64 {
	n := len(d.sums)
	weight := func(i, j int) float64 {
		d0, d1 := d.y[2*i]-d.y[2*j], d.y[2*i+1]-d.y[2*j+1]
		return 1 / (1 + d0*d0 + d1*d1)
	}
	var z, kl float64
	for i := range n {
		for j := range i {
			z += 2 * weight(i, j)
		}
	}
	for i := range n {
		for j := range i {
			p := d.p[i*n+j]
			kl += 2 * p * math.Log(p/max(weight(i, j)/z, smallest))
		}
	}
	return kl
}
