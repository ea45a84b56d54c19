package sampler

// maxShards is how many shards a run may have.
const maxShards = 512

// layout cuts the embeddings of a set, counted class after class, into shards. It depends on its three numbers alone, so
// every replica cuts alike. Where there are at least as many classes as shards, a shard is whole classes; otherwise
// every class is cut into the same number of parts, and a shard is one of them.
type layout struct{ classes, perClass, shards int }

// layoutOf is a layout with shards of about size embeddings, or more where there would be too many of them, and no more
// parts of a class than the given number of rounds.
func layoutOf(classes, perClass, size, rounds int) layout {
	wanted := (classes*perClass + size - 1) / size
	parts := (wanted + classes - 1) / classes
	parts = max(1, min(parts, rounds, maxShards/classes))
	if parts == 1 {
		return layout{classes, perClass, max(1, min(wanted, classes, maxShards))}
	}
	return layout{classes, perClass, classes * parts}
}

// piece is part of a class, or all of it.
type piece struct{ class, part, of int }

// pieces are what a shard samples, in order.
func (l layout) pieces(shard int) []piece {
	parts := max(1, l.shards/l.classes)
	total := l.classes * parts
	var out []piece
	for at := total * shard / l.shards; at < total*(shard+1)/l.shards; at++ {
		out = append(out, piece{class: at / parts, part: at % parts, of: parts})
	}
	return out
}

// samples are the indices [from, to) of a piece in its class: whole rounds of perRound samples each, but for the last.
func (l layout) samples(p piece, perRound int) (from, to int) {
	rounds := roundsOf(l.perClass, perRound)
	return min(l.perClass, rounds*p.part/p.of*perRound), min(l.perClass, rounds*(p.part+1)/p.of*perRound)
}

// roundsOf is how many rounds n samples take.
func roundsOf(n, perRound int) int { return (n + perRound - 1) / perRound }

// roundOf is how many samples a round gives. Methods without boundary points or candidates count one.
func roundOf(p Params) int { return max(1, p.Pick) * max(1, p.Keep) }
