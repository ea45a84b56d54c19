package trainer

// methodVanilla is cross-entropy on ID pictures alone.
func methodVanilla() method { return method{name: vanilla} }
