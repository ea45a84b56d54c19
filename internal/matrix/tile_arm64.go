package matrix

// neonRows8 adds k steps to a tile of 8 rows and 8 columns of a·bᵀ:
// c[i][j] += Σ a[i][p]·b[p][j], p rising, each product and sum fused. Rows of a and c
// are lda and ldc numbers apart; b is packed. With start, c is overwritten.
//
//go:noescape
func neonRows8(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)

// neonRows4 is neonRows8 for a tile of 4 rows.
//
//go:noescape
func neonRows4(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)

// neonRows1 is neonRows8 for a tile of one row.
//
//go:noescape
func neonRows1(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)
