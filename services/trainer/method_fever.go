package trainer

// methodFever is Dream-OOD with the singular-value term of FEVER-OOD on the last layer.
func methodFever() method {
	m := methodDreamOOD()
	m.name, m.source, m.singular = "fever", "Isaac-Medina, Che, Gaus, Akcay and Breckon, ICCV 2025, arXiv 2412.01596", true
	return m
}
