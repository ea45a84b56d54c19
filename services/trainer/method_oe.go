package trainer

import "github.com/dreamood/dreamood/internal/train"

// methodOE is outlier exposure: outliers are to look like no class. λ = 0.5 as its code has.
func methodOE() method {
	return method{
		name: "oe", source: "Hendrycks, Mazeika and Dietterich, ICLR 2019, arXiv 1812.04606",
		set: true, beta: 0.5, loss: func(s Settings) train.OutlierLoss { return train.Uniform{Beta: s.Beta} },
	}
}
