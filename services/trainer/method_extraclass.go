package trainer

import "github.com/dreamood/dreamood/internal/train"

// methodExtraClass gives the outliers a class of their own.
func methodExtraClass() method {
	return method{
		name: "extra-class", source: "a variant in Du, Sun, Zhu and Li, NeurIPS 2023",
		set: true, beta: 1, head: true, loss: func(s Settings) train.OutlierLoss { return train.ExtraClass{Beta: s.Beta} },
	}
}
