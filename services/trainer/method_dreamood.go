package trainer

// methodDreamOOD is the energy regularisation of Dream-OOD on a set of outliers, whatever made them: β = 2.5 as its code
// has on CIFAR.
func methodDreamOOD() method {
	return method{
		name: dreamOOD, source: "Du, Sun, Zhu and Li, NeurIPS 2023, arXiv 2309.13415",
		set: true, beta: 2.5, head: true, phi: true, loss: energyLoss,
	}
}
