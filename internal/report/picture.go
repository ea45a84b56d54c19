package report

import (
	"bytes"
	"encoding/base64"
	"html/template"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
)

// Limits of the pictures on the page.
const (
	largestKept  = 96      // side up to which a picture goes into the page byte for byte, in pixels
	thumbnail    = 128     // longer side of the reduced copy of a larger picture, in pixels
	largestRead  = 1 << 26 // pixels of the largest picture that is decoded
	jpegQuality  = 88      // of reduced copies
	shownBetween = 96      // width at which small pictures are shown, in CSS pixels
)

// shown is a picture as the page shows it.
type shown struct {
	// Source is a data URI; empty when the picture could not be read.
	Source        template.URL
	Width, Height int
	// Pixelated is whether the picture is enlarged, and its pixels are to be seen.
	Pixelated bool
	// Alt says what it shows, Tip more.
	Alt, Tip string
}

// show prepares a PNG picture: small ones are shown three times as large with sharp pixels, large ones are reduced.
func show(data []byte, alt, tip string) shown {
	s := shown{Alt: alt, Tip: tip}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil || c.Width <= 0 || c.Height <= 0 || c.Width > largestRead/c.Height {
		return s
	}
	if max(c.Width, c.Height) > largestKept {
		return s.reduced(data)
	}
	by := max(1, shownBetween/max(c.Width, c.Height))
	s.Width, s.Height, s.Pixelated = c.Width*by, c.Height*by, by > 1
	s.Source = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(data))
	return s
}

// reduced shows a copy with the longer side of thumbnail pixels, so that large pictures do not swell the page.
func (s shown) reduced(data []byte) shown {
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return s
	}
	small := shrink(full, thumbnail)
	var out bytes.Buffer
	if err := jpeg.Encode(&out, small, &jpeg.Options{Quality: jpegQuality}); err != nil {
		return s
	}
	s.Width, s.Height = small.Bounds().Dx(), small.Bounds().Dy()
	s.Source = template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(out.Bytes()))
	return s
}

// shrink averages the pixels of src over a grid whose longer side has n cells, on black where src is transparent.
func shrink(src image.Image, n int) *image.RGBA {
	b := src.Bounds()
	longer := max(b.Dx(), b.Dy())
	w, h := max(1, b.Dx()*n/longer), max(1, b.Dy()*n/longer)
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			cellBounds := image.Rect(b.Min.X+x*b.Dx()/w, b.Min.Y+y*b.Dy()/h,
				b.Min.X+(x+1)*b.Dx()/w, b.Min.Y+(y+1)*b.Dy()/h)
			dst.SetRGBA(x, y, average(src, cellBounds))
		}
	}
	return dst
}

// average is the mean colour of a part of src, opaque.
func average(src image.Image, part image.Rectangle) color.RGBA {
	var r, g, b, n uint64
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			pr, pg, pb, _ := src.At(x, y).RGBA()
			r, g, b, n = r+uint64(pr), g+uint64(pg), b+uint64(pb), n+1
		}
	}
	n = max(n, 1)
	return color.RGBA{uint8(r / n >> 8), uint8(g / n >> 8), uint8(b / n >> 8), 255}
}
