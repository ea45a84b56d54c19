package dataset

import (
	"image"
	"image/color"
	"image/draw"

	xdraw "golang.org/x/image/draw"
)

// videoRange turns what the WebP decoder gives into RGB. Lossy WebP holds BT.601
// video-range YCbCr (luma 16 to 235), but the decoder labels it with the
// full-range type of JPEG, which would wash the colours out: black would be 16.
func videoRange(img image.Image) image.Image {
	var ycc *image.YCbCr
	alpha := func(x, y int) uint8 { return 255 }
	switch m := img.(type) {
	case *image.YCbCr:
		ycc = m
	case *image.NYCbCrA:
		ycc = &m.YCbCr
		alpha = func(x, y int) uint8 { return m.A[m.AOffset(x, y)] }
	default: // lossless WebP is RGB
		return img
	}
	b := ycc.Bounds()
	out := image.NewNRGBA(b)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			at := ycc.COffset(x, y)
			luma := 1.164383 * (float64(ycc.Y[ycc.YOffset(x, y)]) - 16)
			cb, cr := float64(ycc.Cb[at])-128, float64(ycc.Cr[at])-128
			out.SetNRGBA(x, y, color.NRGBA{
				R: level(luma + 1.596027*cr),
				G: level(luma - 0.391762*cb - 0.812968*cr),
				B: level(luma + 2.017232*cb),
				A: alpha(x, y),
			})
		}
	}
	return out
}

// level rounds to a grey level.
func level(v float64) uint8 { return uint8(min(max(v+0.5, 0), 255)) }

// toRGB writes the middle of a picture to dst as [height, width, 3] RGB,
// over white where it is transparent, resized where its edge is not Size.
func toRGB(img image.Image, dst []uint8, height, width int, by Resize) picture {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w*height > h*width {
		w = max(1, h*width/height)
	} else {
		h = max(1, w*height/width)
	}
	corner := b.Min.Add(image.Pt((b.Dx()-w)/2, (b.Dy()-h)/2))
	part := image.NewRGBA(image.Rect(0, 0, w, h))
	opaque := isOpaque(img)
	if opaque {
		draw.Draw(part, part.Rect, img, corner, draw.Src)
	} else {
		draw.Draw(part, part.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(part, part.Rect, img, corner, draw.Over)
	}
	if w != width || h != height {
		part = scale(part, height, width, by)
	}
	for i := 0; i < len(dst)/3; i++ {
		copy(dst[3*i:3*i+3], part.Pix[4*i:4*i+3])
	}
	return picture{pixels: dst, alpha: !opaque, resized: b.Dx() != width || b.Dy() != height}
}

func isOpaque(img image.Image) bool {
	o, ok := img.(interface{ Opaque() bool })
	return ok && o.Opaque()
}

func scale(src *image.RGBA, height, width int, by Resize) *image.RGBA {
	dst := image.NewRGBA(image.Rect(0, 0, width, height))
	var filter xdraw.Scaler = xdraw.CatmullRom
	switch by {
	case Bilinear:
		filter = xdraw.BiLinear
	case Nearest:
		filter = xdraw.NearestNeighbor
	}
	filter.Scale(dst, dst.Rect, src, src.Rect, xdraw.Src, nil)
	return dst
}
