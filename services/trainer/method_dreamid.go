package trainer

// methodDreamID is cross-entropy on ID pictures and imagined inliers together.
func methodDreamID() method {
	return method{
		name: "dream-id", source: "Du, Sun, Zhu and Li, NeurIPS 2023, section 3.3",
		set: true, beta: 1, labelled: true,
	}
}
