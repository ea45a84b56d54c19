#include "textflag.h"

// d.4S += n.4S · m.S[lane], fused. Go's assembler knows no product with one lane;
// m, n and d are numbers of V registers.
#define FMLA(m, lane, n, d) WORD $(0x4F801000 | ((lane & 1) << 21) | ((lane >> 1) << 11) | (m << 16) | (n << 5) | d)

// One step of k: eight numbers of b in V8 and V9 times number lane of V0, V1, …,
// which hold a row of a each, added to V16 and V17, V18 and V19, …
#define RIGHT VLD1.P 32(R4), [V8.S4, V9.S4]
#define ROW(m, lane, d0, d1) FMLA(m, lane, 8, d0); FMLA(m, lane, 9, d1)
#define STEP1(lane) RIGHT; ROW(0, lane, 16, 17)
#define STEP4(lane) STEP1(lane); ROW(1, lane, 18, 19); ROW(2, lane, 20, 21); ROW(3, lane, 22, 23)
#define STEP8(lane) STEP4(lane); ROW(4, lane, 24, 25); ROW(5, lane, 26, 27); ROW(6, lane, 28, 29); ROW(7, lane, 30, 31)

// Rows of a are R8, R9, …, R1 bytes apart; rows of c are R6 bytes apart.
#define OPERANDS \
	MOVD k+0(FP), R0; \
	MOVD a+8(FP), R8; \
	MOVD lda+16(FP), R1; \
	MOVD b+24(FP), R4; \
	MOVD c+32(FP), R5; \
	MOVD ldc+40(FP), R6; \
	MOVBU start+48(FP), R7; \
	LSL $2, R1; \
	LSL $2, R6; \
	MOVD R5, R3
#define ROWS4 ADD R1, R8, R9; ADD R1, R9, R10; ADD R1, R10, R11
#define ROWS8 ROWS4; ADD R1, R11, R12; ADD R1, R12, R13; ADD R1, R13, R14; ADD R1, R14, R15

// A row of c in two registers.
#define GET(v, w) VLD1 (R3), [v, w]; ADD R6, R3
#define PUT(v, w) VST1 [v, w], (R5); ADD R6, R5
#define ZERO(v) VEOR v, v, v
#define GET4 GET(V16.S4, V17.S4); GET(V18.S4, V19.S4); GET(V20.S4, V21.S4); GET(V22.S4, V23.S4)
#define PUT4 PUT(V16.S4, V17.S4); PUT(V18.S4, V19.S4); PUT(V20.S4, V21.S4); PUT(V22.S4, V23.S4)
#define ZERO4 ZERO(V16.B16); ZERO(V17.B16); ZERO(V18.B16); ZERO(V19.B16); ZERO(V20.B16); ZERO(V21.B16); ZERO(V22.B16); ZERO(V23.B16)

// func neonRows8(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)
TEXT ·neonRows8(SB), NOSPLIT, $0-49
	OPERANDS
	ROWS8
	ZERO4
	ZERO(V24.B16); ZERO(V25.B16); ZERO(V26.B16); ZERO(V27.B16)
	ZERO(V28.B16); ZERO(V29.B16); ZERO(V30.B16); ZERO(V31.B16)
	CBNZ R7, four
	GET4
	GET(V24.S4, V25.S4); GET(V26.S4, V27.S4); GET(V28.S4, V29.S4); GET(V30.S4, V31.S4)
four:
	SUBS $4, R0
	BLT  rest
loop:
	VLD1.P 16(R8), [V0.S4]
	VLD1.P 16(R9), [V1.S4]
	VLD1.P 16(R10), [V2.S4]
	VLD1.P 16(R11), [V3.S4]
	VLD1.P 16(R12), [V4.S4]
	VLD1.P 16(R13), [V5.S4]
	VLD1.P 16(R14), [V6.S4]
	VLD1.P 16(R15), [V7.S4]
	STEP8(0)
	STEP8(1)
	STEP8(2)
	STEP8(3)
	SUBS $4, R0
	BGE  loop
rest:
	ADDS $4, R0
	BEQ  store
one:
	FMOVS.P 4(R8), F0
	FMOVS.P 4(R9), F1
	FMOVS.P 4(R10), F2
	FMOVS.P 4(R11), F3
	FMOVS.P 4(R12), F4
	FMOVS.P 4(R13), F5
	FMOVS.P 4(R14), F6
	FMOVS.P 4(R15), F7
	STEP8(0)
	SUBS $1, R0
	BNE  one
store:
	PUT4
	PUT(V24.S4, V25.S4); PUT(V26.S4, V27.S4); PUT(V28.S4, V29.S4); PUT(V30.S4, V31.S4)
	RET

// func neonRows4(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)
TEXT ·neonRows4(SB), NOSPLIT, $0-49
	OPERANDS
	ROWS4
	ZERO4
	CBNZ R7, four
	GET4
four:
	SUBS $4, R0
	BLT  rest
loop:
	VLD1.P 16(R8), [V0.S4]
	VLD1.P 16(R9), [V1.S4]
	VLD1.P 16(R10), [V2.S4]
	VLD1.P 16(R11), [V3.S4]
	STEP4(0)
	STEP4(1)
	STEP4(2)
	STEP4(3)
	SUBS $4, R0
	BGE  loop
rest:
	ADDS $4, R0
	BEQ  store
one:
	FMOVS.P 4(R8), F0
	FMOVS.P 4(R9), F1
	FMOVS.P 4(R10), F2
	FMOVS.P 4(R11), F3
	STEP4(0)
	SUBS $1, R0
	BNE  one
store:
	PUT4
	RET

// func neonRows1(k int, a *float32, lda int, b *float32, c *float32, ldc int, start bool)
TEXT ·neonRows1(SB), NOSPLIT, $0-49
	OPERANDS
	ZERO(V16.B16)
	ZERO(V17.B16)
	CBNZ R7, rest
	GET(V16.S4, V17.S4)
rest:
	CBZ R0, store
one:
	FMOVS.P 4(R8), F0
	STEP1(0)
	SUBS $1, R0
	BNE  one
store:
	PUT(V16.S4, V17.S4)
	RET
