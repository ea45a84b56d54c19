package report

import "math"

// z95 is the 97.5 % quantile of the standard normal distribution: half a 95 % interval in standard errors.
const z95 = 1.96

// metric is one column of the comparison.
type metric struct {
	// Name and Hint are the column's head and its tooltip.
	Name, Hint string
	// Higher is whether a larger value is better.
	Higher bool
	value  func(OODResult) float64
	// stderr is the standard error of value for nID ID and nOOD OOD pictures.
	stderr func(r OODResult, nID, nOOD int) float64
}

// metrics are the columns of the comparison, in order.
func metrics() []metric {
	return []metric{
		{
			Name: "FPR95", Hint: "share of OOD accepted when 95 % of ID is (ID is the positive class)",
			value: func(r OODResult) float64 { return r.FPR95 },
			stderr: func(r OODResult, nID, nOOD int) float64 {
				return rateError(r.FPR95, nOOD, nID, slope(r.ROCTPR, r.ROCFPR, 0.95))
			},
		},
		{
			Name: "AUROC", Hint: "chance that an ID picture scores higher than an OOD one", Higher: true,
			value:  func(r OODResult) float64 { return r.AUROC },
			stderr: func(r OODResult, nID, nOOD int) float64 { return areaError(r.AUROC, nID, nOOD) },
		},
		{
			Name: "AUPR-in", Hint: "average precision with ID as the positive class", Higher: true,
			value:  func(r OODResult) float64 { return r.AUPRIn },
			stderr: func(r OODResult, nID, _ int) float64 { return shareError(r.AUPRIn, nID) },
		},
		{
			Name: "AUPR-out", Hint: "average precision with OOD as the positive class", Higher: true,
			value:  func(r OODResult) float64 { return r.AUPROut },
			stderr: func(r OODResult, _, nOOD int) float64 { return shareError(r.AUPROut, nOOD) },
		},
		{
			Name: "FPR95, OOD-positive", Hint: "share of ID refused when 95 % of OOD is (OOD is the positive class, as in OpenOOD)",
			value: func(r OODResult) float64 { return r.FPR95OODPositive },
			stderr: func(r OODResult, nID, nOOD int) float64 {
				return rateError(r.FPR95OODPositive, nID, nOOD, slope(r.ROCFPR, r.ROCTPR, 0.05))
			},
		},
	}
}

// shareError is the standard error of a share p of n pictures, after Agresti and Coull (1998): two successes and two
// failures are added, so that 0 % and 100 % have an error too. For an area under the precision-recall curve it is the
// binomial interval of Boyd, Eng and Page (ECML 2013), n counting the positives. NaN without pictures.
func shareError(p float64, n int) float64 {
	if n <= 0 || !finite(p) || p < 0 || p > 1 {
		return math.NaN()
	}
	m := float64(n) + 4
	q := (p*float64(n) + 2) / m
	return math.Sqrt(q * (1 - q) / m)
}

// rateError is the standard error of an FPR95: that of a share p of n pictures, and that of the threshold, which is
// itself the 5 % quantile of m pictures of the other side and moves p by slope per unit of recall.
func rateError(p float64, n, m int, slope float64) float64 {
	share := shareError(p, n)
	if m <= 0 || !finite(slope) {
		return share
	}
	return math.Hypot(share, slope*math.Sqrt(0.95*0.05/float64(m)))
}

// areaError is the standard error of an AUROC after Hanley and McNeil (Radiology 143, 1982).
func areaError(a float64, n, m int) float64 {
	if n <= 0 || m <= 0 || !finite(a) || a < 0 || a > 1 {
		return math.NaN()
	}
	q1, q2 := a/(2-a), 2*a*a/(1+a)
	v := a*(1-a) + float64(n-1)*(q1-a*a) + float64(m-1)*(q2-a*a)
	return math.Sqrt(max(v, 0) / (float64(n) * float64(m)))
}

// slope is dys/dxs of a curve at x, over two hundredths on either side; NaN when the curve does not reach so far.
func slope(xs, ys []float32, x float64) float64 {
	return (curveAt(xs, ys, x+0.02) - curveAt(xs, ys, x-0.02)) / 0.04
}

// curveAt interpolates ys linearly where a monotonic xs first crosses x; NaN when it does not.
func curveAt(xs, ys []float32, x float64) float64 {
	for i := 1; i < min(len(xs), len(ys)); i++ {
		a, b := float64(xs[i-1]), float64(xs[i])
		if (a-x)*(b-x) > 0 || a == b || !finite(a) || !finite(b) {
			continue
		}
		return float64(ys[i-1]) + (x-a)/(b-a)*float64(ys[i]-ys[i-1])
	}
	return math.NaN()
}
