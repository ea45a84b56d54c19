package matrix

// Packed is a matrix laid out as the left operand of a product: rows that begin
// at lines of the cache, a little further apart than they are long. Make one with
// [Pack] or [NewPacked].
type Packed struct {
	Rows, Cols int
	stride     int
	data       []float32
}

// line is the number of float32 in a line of the cache.
const line = 16

// NewPacked returns a packed matrix of zeros, to be filled row by row.
func NewPacked(rows, cols int) *Packed {
	// An odd number of cache lines: the kernels read a column of several rows
	// at once, which a power of two would put in one set of the cache.
	lines := (cols+line-1)/line | 1
	return &Packed{Rows: rows, Cols: cols, stride: lines * line, data: aligned(rows * lines * line)}
}

// Pack copies m.
func Pack(m Matrix) *Packed {
	p := NewPacked(m.Rows, m.Cols)
	for i := range m.Rows {
		copy(p.Row(i), m.Row(i))
	}
	return p
}

// Row is row i, a view of Cols values.
func (p *Packed) Row(i int) []float32 {
	return p.data[i*p.stride : i*p.stride+p.Cols : i*p.stride+p.Cols]
}

// Slice is rows [from, to), a view.
func (p *Packed) Slice(from, to int) *Packed {
	return &Packed{Rows: to - from, Cols: p.Cols, stride: p.stride, data: p.data[from*p.stride : to*p.stride]}
}
