#include "textflag.h"

// Instructions that Go's assembler lacks; m, n and d are numbers of V registers.
#define FADD4(m, n, d) WORD $(0x4E20D400 | (m << 16) | (n << 5) | d)  // d.4S = n + m
#define FMUL4(m, n, d) WORD $(0x6E20DC00 | (m << 16) | (n << 5) | d)  // d.4S = n · m
#define FCMGT4(m, n, d) WORD $(0x6EA0E400 | (m << 16) | (n << 5) | d) // d.4S = all bits where n > m
#define FCVTL(n, d) WORD $(0x0E617800 | (n << 5) | d)                 // d.2D = the lower two of n.4S
#define FCVTL2(n, d) WORD $(0x4E617800 | (n << 5) | d)                // d.2D = the upper two of n.4S

// V20 holds t in all lanes, V21 the counts: a comparison gives -1 where a number
// is below t, which is taken off.
#define COUNT(v, of) FCMGT4(v, 20, v); VSUB of, V21.S4, V21.S4
#define TOTAL(r) VADDV V21.S4, V21; VMOV V21.S[0], r

// func neonReaches(a, b *float32, n int, t float32, spare int) bool
TEXT ·neonReaches(SB), NOSPLIT, $0-41
	MOVD  a+0(FP), R0
	MOVD  b+8(FP), R1
	MOVD  n+16(FP), R2
	MOVWU t+24(FP), R3
	MOVD  spare+32(FP), R4
	MOVD  ZR, R6
	VDUP  R3, V20.S4
	FMOVS t+24(FP), F22
	VEOR  V21.B16, V21.B16, V21.B16

sixteen:
	CMP    $16, R2
	BLT    four
	VLD1.P 64(R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P 64(R1), [V4.S4, V5.S4, V6.S4, V7.S4]
	FADD4(4, 0, 0)
	FADD4(5, 1, 1)
	FADD4(6, 2, 2)
	FADD4(7, 3, 3)
	COUNT(0, V0.S4)
	COUNT(1, V1.S4)
	COUNT(2, V2.S4)
	COUNT(3, V3.S4)
	SUB    $16, R2
	ADD    $16, R6
	TST    $63, R6
	BNE    sixteen

	// Now and then, the count is looked at: those left may not change it.
	TOTAL(R5)
	VEOR V21.B16, V21.B16, V21.B16
	SUBS R5, R4
	BLT  no
	CMP  R2, R4
	BGE  yes
	B    sixteen

four:
	CMP    $4, R2
	BLT    one
	VLD1.P 16(R0), [V0.S4]
	VLD1.P 16(R1), [V1.S4]
	FADD4(1, 0, 0)
	COUNT(0, V0.S4)
	SUB    $4, R2
	B      four

one:
	CBZ     R2, last
	FMOVS.P 4(R0), F0
	FMOVS.P 4(R1), F1
	FADDS   F1, F0
	FCMPS   F0, F22
	CSET    GT, R5
	SUB     R5, R4
	SUB     $1, R2
	B       one

last:
	TOTAL(R5)
	SUBS R5, R4
	BLT  no

yes:
	MOVD $1, R0
	MOVB R0, ret+40(FP)
	RET

no:
	MOVB ZR, ret+40(FP)
	RET

// func neonBelow(a *float32, n int, t float32) int
TEXT ·neonBelow(SB), NOSPLIT, $0-32
	MOVD  a+0(FP), R0
	MOVD  n+8(FP), R2
	MOVWU t+16(FP), R3
	MOVD  ZR, R4
	VDUP  R3, V20.S4
	FMOVS t+16(FP), F22
	VEOR  V21.B16, V21.B16, V21.B16

sixteen:
	CMP    $16, R2
	BLT    four
	VLD1.P 64(R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	COUNT(0, V0.S4)
	COUNT(1, V1.S4)
	COUNT(2, V2.S4)
	COUNT(3, V3.S4)
	SUB    $16, R2
	B      sixteen

four:
	CMP    $4, R2
	BLT    one
	VLD1.P 16(R0), [V0.S4]
	COUNT(0, V0.S4)
	SUB    $4, R2
	B      four

one:
	CBZ     R2, last
	FMOVS.P 4(R0), F0
	FCMPS   F0, F22
	CSET    GT, R5
	ADD     R5, R4
	SUB     $1, R2
	B       one

last:
	TOTAL(R5)
	ADD  R5, R4
	MOVD R4, ret+24(FP)
	RET

// Four numbers scaled, and their squares added to two pairs of sums.
#define SQUARES(v, low, high) \
	FMUL4(20, v, v); \
	FCVTL(v, 4); \
	FCVTL2(v, 5); \
	VFMLA V4.D2, V4.D2, low; \
	VFMLA V5.D2, V5.D2, high

// func neonScaleSquares(v *float32, rounds int, factor float32, partials *[16]float64)
TEXT ·neonScaleSquares(SB), NOSPLIT, $0-32
	MOVD  v+0(FP), R0
	MOVD  rounds+8(FP), R1
	MOVWU factor+16(FP), R2
	MOVD  partials+24(FP), R3
	VDUP  R2, V20.S4
	VEOR  V24.B16, V24.B16, V24.B16
	VEOR  V25.B16, V25.B16, V25.B16
	VEOR  V26.B16, V26.B16, V26.B16
	VEOR  V27.B16, V27.B16, V27.B16
	VEOR  V28.B16, V28.B16, V28.B16
	VEOR  V29.B16, V29.B16, V29.B16
	VEOR  V30.B16, V30.B16, V30.B16
	VEOR  V31.B16, V31.B16, V31.B16

loop:
	VLD1   (R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	SQUARES(0, V24.D2, V25.D2)
	SQUARES(1, V26.D2, V27.D2)
	SQUARES(2, V28.D2, V29.D2)
	SQUARES(3, V30.D2, V31.D2)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	SUBS   $1, R1
	BNE    loop
	VST1.P [V24.D2, V25.D2, V26.D2, V27.D2], 64(R3)
	VST1   [V28.D2, V29.D2, V30.D2, V31.D2], (R3)
	RET
