package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"testing"
)

// recorded is what tools/vectors/dataset.py writes: Pillow's view of pictures.
type recorded struct {
	Pictures []struct {
		Name   string
		Data   []byte
		Size   int
		Resize Resize
		RGB    []byte
	}
	Reflect4  []byte
	Mean, Std [3]float64
}

func readRecorded(t *testing.T) recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/pictures.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// tolerance in grey levels, largest and mean, and why there is one.
func tolerance(name string) (worst int, mean float64) {
	switch {
	case name == "rgb420.jpg", name == "lossy.webp":
		return 20, 2 // half-size chroma: repeated here, interpolated ("fancy") by libjpeg and libwebp
	case path.Ext(name) == ".jpg":
		return 2, 0.2 // another inverse DCT and another rounding of YCbCr
	case strings.Contains(name, "alpha"):
		return 1, 0.25 // compositing truncates, Pillow rounds
	case name == "wide-nearest.png":
		return 0, 0
	case strings.HasPrefix(name, "wide"), name == "enlarged.png":
		return 2, 0.3 // Pillow rounds to 8 bits between its two passes
	}
	return 0, 0 // lossless at its own size
}

func TestDecodeAgainstPillow(t *testing.T) {
	for _, p := range readRecorded(t).Pictures {
		t.Run(p.Name, func(t *testing.T) {
			got, err := Decode(t.Context(), p.Name, p.Data, Options{Size: p.Size, Resize: p.Resize})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(p.RGB) {
				t.Fatalf("%d bytes, want %d", len(got), len(p.RGB))
			}
			worst, sum := 0, 0
			for i, want := range p.RGB {
				d := int(got[i]) - int(want)
				worst = max(worst, d, -d)
				sum += max(d, -d)
			}
			mean := float64(sum) / float64(len(p.RGB))
			if w, m := tolerance(p.Name); worst > w || mean > m {
				t.Errorf("differs from Pillow by %d at most and %.3f on average, want %d and %.3f", worst, mean, w, m)
			}
		})
	}
}

// TestDecodeCutOff cuts every recorded picture at several places. Decode must
// return an error that names the file, and never panic. A cut in the
// last bytes may be harmless where a decoder does not need them.
func TestDecodeCutOff(t *testing.T) {
	for _, p := range readRecorded(t).Pictures {
		for _, share := range []float64{0, 0.01, 0.1, 0.5, 0.8} {
			cut := p.Data[:int(share*float64(len(p.Data)))]
			_, err := Decode(t.Context(), p.Name, cut, Options{Size: p.Size})
			var problem Problem
			if !errors.As(err, &problem) || problem.File != p.Name || problem.Remedy == "" {
				t.Errorf("%s cut to %d %%: error %v, want a Problem with the file and a remedy", p.Name, int(100*share), err)
			}
		}
	}
}

// bombPNG is a valid PNG head that claims width × height pixels.
func bombPNG(width, height uint32) []byte {
	head := append([]byte("IHDR"), make([]byte, 13)...)
	binary.BigEndian.PutUint32(head[4:], width)
	binary.BigEndian.PutUint32(head[8:], height)
	head[12], head[13] = 8, 2 // 8-bit RGB
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
	b.Write(head)
	_ = binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(head)) // a buffer never fails
	b.WriteString("\x00\x00\x00\x00IEND\xaeB`\x82")
	return b.Bytes()
}

func TestDecodeRefuses(t *testing.T) {
	jpg := readRecorded(t).Pictures[7]
	if jpg.Name != "rgb444.jpg" {
		t.Fatal("the recorded pictures changed their order")
	}
	scans := bytes.Repeat([]byte("\xff\xda"), maxScans)
	cases := []struct {
		name string
		data []byte
		want Reason
		text string
	}{
		{"bomb.png", bombPNG(60000, 60000), PictureBomb, "60000×60000 pixels, 3600.0 million; the limit is 33.6 million"},
		{"scans.jpg", append(bytes.Clone(jpg.Data), scans...), PictureBomb, "more than 500 scans"},
		{"zero.png", bombPNG(0, 4), Unreadable, "cannot be read"},
		{"doc.png", []byte("%PDF-1.7\n"), WrongType, "a PDF document"},
		{"page.jpg", []byte("<!doctype html>"), WrongType, "HTML"},
		{"pointer.png", []byte("version https://git-lfs.github.com/spec/v1\n"), WrongType, "git lfs pull"},
		{"noise.png", []byte("what is this"), WrongType, "no PNG, JPEG or WebP"},
		{"empty.png", nil, WrongType, "no PNG, JPEG or WebP"},
		{"head.png", bombPNG(8, 8), Unreadable, "cannot be read"},
		{"big.png", make([]byte, 40<<20), TooLarge, "40.0 MiB"},
		{"bad\x1bname.png", []byte("%PDF"), WrongType, `"bad\x1bname.png"`},
	}
	for _, c := range cases {
		_, err := Decode(t.Context(), c.name, c.data, Options{})
		var p Problem
		if !errors.As(err, &p) || p.Reason != c.want || !strings.Contains(p.Error(), c.text) {
			t.Errorf("%q: error %v, want %s with %q", c.name, err, c.want, c.text)
		}
	}
}

func TestDecodeStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Decode(ctx, "a.png", readRecorded(t).Pictures[0].Data, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestDecodeReportsEveryBadOption(t *testing.T) {
	_, err := Decode(t.Context(), "a.png", nil, Options{Size: -1, Resize: "magic", PerClass: -1, Workers: -1, Classes: []string{"a", "a"}, Limits: Limits{MaxPixels: -1}})
	for _, want := range []string{"size is -1", `resize is "magic"`, "per class is -1", "workers is -1", `"a" is asked for twice`, "limit is negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestGuardTurnsPanicIntoError(t *testing.T) {
	_, err := guard(func(io.Reader) (int, error) { panic("index out of range") }, nil)
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("error %v", err)
	}
}

func TestEncodePNG(t *testing.T) {
	want := readRecorded(t).Pictures[0]
	data, err := EncodePNG(want.RGB, want.Size)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(t.Context(), "a.png", data, Options{Size: want.Size})
	if err != nil || !bytes.Equal(got, want.RGB) {
		t.Errorf("pixels changed on the way (error %v)", err)
	}
	if _, err := EncodePNG(want.RGB, want.Size+1); err == nil {
		t.Error("no error for a wrong size")
	}
}

func TestMeanStdAgainstNumPy(t *testing.T) {
	r := readRecorded(t)
	d, err := FromPixels("one", []string{"a"}, r.Pictures[0].Size, r.Pictures[0].RGB, []int32{0}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mean, std := d.MeanStd()
	for c := range 3 { // sums are exact here; NumPy's rounding is of the order of 1e-16
		if math.Abs(mean[c]-r.Mean[c]) > 1e-12 || math.Abs(std[c]-r.Std[c]) > 1e-12 {
			t.Errorf("channel %d: %v ± %v, want %v ± %v", c, mean[c], std[c], r.Mean[c], r.Std[c])
		}
	}
}

// DecodeTo keeps pictures of the wanted size, and takes the largest middle part
// of others: of a wide one for a tall frame a strip.
func TestDecodeTo(t *testing.T) {
	wide := image.NewNRGBA(image.Rect(0, 0, 12, 4))
	for y := range 4 {
		for x := range 12 {
			wide.SetNRGBA(x, y, color.NRGBA{uint8(20 * x), uint8(60 * y), 7, 255})
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, wide); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ height, width, left, top int }{{4, 12, 0, 0}, {4, 2, 5, 0}, {4, 4, 4, 0}} {
		pixels, err := DecodeTo(t.Context(), "wide.png", file.Bytes(), c.height, c.width, Options{})
		if err != nil || len(pixels) != 3*c.height*c.width {
			t.Fatalf("%d×%d: %d bytes, %v", c.width, c.height, len(pixels), err)
		}
		for y := range c.height {
			for x := range c.width {
				want := wide.NRGBAAt(c.left+x, c.top+y)
				if got := [3]uint8(pixels[3*(y*c.width+x):]); got != [3]uint8{want.R, want.G, want.B} {
					t.Fatalf("%d×%d at %d, %d: %v, want %v", c.width, c.height, x, y, got, want)
				}
			}
		}
	}
	if _, err := DecodeTo(t.Context(), "wide.png", file.Bytes(), 0, 4, Options{}); err == nil {
		t.Error("a picture without height was decoded")
	}
}
