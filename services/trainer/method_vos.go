package trainer

import (
	"cmp"

	"github.com/dreamood/dreamood/internal/fault"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// methodVOS is the energy regularisation on outliers that VOS draws: here they are drawn in the text-conditioned space,
// by the sampler's method gaussian, and rendered. The paper draws them among the classifier's own features.
func methodVOS() method {
	m := methodDreamOOD()
	m.name, m.source = "vos", "Du, Wang, Cai and Li, ICLR 2022, arXiv 2202.01197"
	m.fits = sampledBy("vos", "gaussian")
	return m
}

// sampledBy takes sets whose embeddings a method of the sampler made.
func sampledBy(name, sampling string) func(*generatorv1.Set) error {
	return func(set *generatorv1.Set) error {
		if set.GetSource() != generatorv1.Source_SOURCE_WORDS && cmp.Or(set.GetSampling().GetMethod(), "knn") == sampling {
			return nil
		}
		return fault.Invalid("set", "%s was not sampled with the method %s, which %s is about; make one with imagine --method %s, or train on it as dream-ood", set.GetName(), sampling, name, sampling)
	}
}
