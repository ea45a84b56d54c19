package report

import (
	"bytes"
	"encoding/base64"
	"image"
	_ "image/jpeg"
	"strings"
	"testing"
)

func TestPictures(t *testing.T) {
	for name, c := range map[string]struct {
		data   []byte
		prefix string
		w, h   int
		pixels bool
	}{
		"small is enlarged": {drawnPicture(32, 32, 9), "data:image/png;base64,", 96, 96, true},
		"oblong":            {drawnPicture(48, 24, 9), "data:image/png;base64,", 96, 48, true},
		"kept as it is":     {drawnPicture(90, 60, 9), "data:image/png;base64,", 90, 60, false},
		"large is reduced":  {drawnPicture(512, 256, 9), "data:image/jpeg;base64,", 128, 64, false},
		"a thread":          {drawnPicture(300, 1, 9), "data:image/jpeg;base64,", 128, 1, false},
		"no picture":        {[]byte("<svg onload=alert(1)>"), "", 0, 0, false},
		"nothing":           {nil, "", 0, 0, false},
		"cut off":           {drawnPicture(512, 256, 9)[:200], "", 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := show(c.data, "alt", "tip")
			if s.Width != c.w || s.Height != c.h || s.Pixelated != c.pixels {
				t.Errorf("%d × %d, pixelated %v; want %d × %d, %v", s.Width, s.Height, s.Pixelated, c.w, c.h, c.pixels)
			}
			data, ok := strings.CutPrefix(string(s.Source), c.prefix)
			if !ok || (c.prefix == "") != (s.Source == "") {
				t.Fatalf("source begins with %.30q", s.Source)
			}
			raw, err := base64.StdEncoding.DecodeString(data)
			if err != nil {
				t.Fatal(err)
			}
			if c.prefix != "" {
				if _, _, err := image.Decode(bytes.NewReader(raw)); err != nil {
					t.Errorf("the picture in the page: %v", err)
				}
			}
		})
	}
}

func TestShrinkAverages(t *testing.T) {
	src := image.NewGray(image.Rect(0, 0, 4, 4))
	for i := range src.Pix {
		src.Pix[i] = uint8(i%2) * 200 // columns of 0 and 200
	}
	small := shrink(src, 2)
	if c := small.RGBAAt(1, 1); c.R != 100 || c.G != 100 || c.A != 255 {
		t.Errorf("got %v, want grey 100", c)
	}
}

func TestLabelsDoNotCoverEachOther(t *testing.T) {
	p := newPlot(mapWidth, mapHeight, "chart", "")
	var taken []rectangle
	for i := range 12 { // twelve anchors on nearly one spot
		taken = append(taken, rectangle{300 + float64(i), 300, 14, 14})
	}
	for i := range 12 {
		at := p.place(307+float64(i), 307, 80, 20, taken, i)
		for j, o := range taken {
			if j != i && at.overlaps(o) {
				t.Fatalf("label %d covers %d", i, j)
			}
		}
		taken = append(taken, at)
	}
}
