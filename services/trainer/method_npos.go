package trainer

// methodNPOS is the energy regularisation on outliers that NPOS draws, as [methodVOS]: in the text-conditioned space, by
// the sampler's method npos, and rendered. The paper draws them among the classifier's own features.
func methodNPOS() method {
	m := methodDreamOOD()
	m.name, m.source = "npos", "Tao, Du, Zhu and Li, ICLR 2023, arXiv 2303.02966"
	m.fits = sampledBy("npos", "npos")
	return m
}
