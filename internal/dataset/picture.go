package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/image/webp"
)

// format is what the first bytes of a file say it is.
type format struct {
	name   string // with its article, for errors; empty when unknown
	ext    string // "png", "jpeg" or "webp"; empty when it cannot be decoded
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

// sniff tells the format of a file from its first bytes. Formats without a
// decoder are known only to name them in an error.
func sniff(data []byte) format {
	is := func(magic string) bool { return bytes.HasPrefix(data, []byte(magic)) }
	at := func(i int, magic string) bool { return len(data) > i && bytes.HasPrefix(data[i:], []byte(magic)) }
	switch {
	case is("\x89PNG\r\n\x1a\n"):
		return format{"a PNG picture", "png", png.DecodeConfig, png.Decode}
	case is("\xff\xd8\xff"):
		return format{"a JPEG picture", "jpeg", jpeg.DecodeConfig, jpeg.Decode}
	case is("RIFF") && at(8, "WEBP"):
		return format{"a WebP picture", "webp", webp.DecodeConfig, decodeWebP}
	case is("%PDF"):
		return format{name: "a PDF document"}
	case is("GIF8"):
		return format{name: "a GIF picture"}
	case is("II*\x00"), is("MM\x00*"):
		return format{name: "a TIFF picture"}
	case at(4, "ftyp"):
		return format{name: "an AVIF, HEIC or MP4 file"}
	case is("PK\x03\x04"):
		return format{name: "a zip archive"}
	case is("\x1f\x8b"):
		return format{name: "a gzip file"}
	case is(lfsPointer):
		return format{name: "a Git LFS pointer"}
	case is("<"):
		return format{name: "an HTML, XML or SVG page"}
	case is("BM"):
		return format{name: "a BMP picture"}
	}
	return format{}
}

func decodeWebP(r io.Reader) (image.Image, error) {
	img, err := webp.Decode(r)
	if err != nil {
		return nil, err
	}
	return videoRange(img), nil
}

const lfsPointer = "version https://git-lfs"

// maxScans bounds the scans of a progressive JPEG: each costs a pass over the
// whole picture for a few bytes of file. Encoders write about ten.
const maxScans = 500

// examine looks at the head of an encoded picture, and decides what it is and
// what decoding it would cost, without decoding it.
func examine(file string, data []byte, lim Limits) (format, image.Config, *Problem) {
	f := sniff(data)
	if f.decode == nil {
		p := &Problem{File: file, Reason: WrongType, Detail: "the content is no PNG, JPEG or WebP picture", Remedy: "convert it, or remove it from the dataset"}
		if f.name != "" {
			p.Detail = "the content is " + f.name + ", not a PNG, JPEG or WebP picture"
		}
		if bytes.HasPrefix(data, []byte(lfsPointer)) {
			p.Remedy = "fetch the pictures with git lfs pull"
		}
		return f, image.Config{}, p
	}
	cfg, err := guard(f.config, bytes.NewReader(data))
	if err != nil {
		return f, cfg, unreadable(file, err)
	}
	switch pixels := int64(cfg.Width) * int64(cfg.Height); {
	case cfg.Width <= 0 || cfg.Height <= 0:
		return f, cfg, unreadable(file, fmt.Errorf("the picture is %d×%d", cfg.Width, cfg.Height))
	case pixels > lim.MaxPixels:
		return f, cfg, &Problem{File: file, Reason: PictureBomb, Detail: fmt.Sprintf("the picture claims %d×%d pixels, %.1f million; the limit is %.1f million", cfg.Width, cfg.Height, float64(pixels)/1e6, float64(lim.MaxPixels)/1e6), Remedy: "make it smaller or remove it, or raise the limit of pixels"}
	case !complete(f, data):
		return f, cfg, unreadable(file, io.ErrUnexpectedEOF)
	case f.ext == "jpeg" && bytes.Count(data, []byte("\xff\xda")) > maxScans:
		return f, cfg, &Problem{File: file, Reason: PictureBomb, Detail: fmt.Sprintf("the JPEG has more than %d scans", maxScans), Remedy: "encode it again, or remove it"}
	}
	return f, cfg, nil
}

// complete looks for the mark that ends a picture, which a file that was cut
// off has lost. What follows the mark does not matter.
func complete(f format, data []byte) bool {
	switch f.ext {
	case "png":
		return bytes.Contains(data, []byte("IEND"))
	case "jpeg":
		return bytes.Contains(data, []byte("\xff\xd9"))
	}
	// RIFF holds its own length.
	size := uint64(data[4]) | uint64(data[5])<<8 | uint64(data[6])<<16 | uint64(data[7])<<24
	return uint64(len(data)) >= size+8
}

func unreadable(file string, err error) *Problem {
	p := &Problem{File: file, Reason: Unreadable, Detail: "the picture cannot be read: " + err.Error(), Remedy: "copy or encode it again, or remove it", Err: err}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		p.Detail = "the picture is cut off"
		p.Remedy = "copy it again, or remove it"
	case errors.Is(err, fs.ErrPermission):
		p.Reason, p.Detail, p.Remedy = Permission, "no permission to read it", "let the user that runs dreamood read it (chmod -R u+rX)"
	case strings.Contains(err.Error(), "unsupported"): // as the decoders word it
		p.Remedy = "encode it as a plain PNG or JPEG, or remove it"
	}
	return p
}

// picture is one decoded picture.
type picture struct {
	pixels  []uint8 // [Size, Size, 3] RGB
	alpha   bool    // was composited over white
	resized bool    // was cropped or resized
}

// decodePicture decodes one picture that examine accepted, into dst, which has
// room for Size·Size·3 bytes.
func decodePicture(ctx context.Context, file string, data []byte, f format, dst []uint8, opt Options) (picture, *Problem) {
	return decodeTo(ctx, file, data, f, dst, opt.Size, opt.Size, opt.Resize)
}

func decodeTo(ctx context.Context, file string, data []byte, f format, dst []uint8, height, width int, by Resize) (picture, *Problem) {
	img, err := guard(f.decode, &doneReader{ctx: ctx, r: bytes.NewReader(data)})
	if err != nil {
		return picture{}, unreadable(file, err)
	}
	return toRGB(img, dst, height, width, by), nil
}

// guard calls a decoder. The decoders are memory-safe, and a panic in one on
// malformed input is a fault of the picture, not a reason to end the process.
func guard[T any](decode func(io.Reader) (T, error), r io.Reader) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decoder gave up: %v", p)
		}
	}()
	return decode(r)
}

// doneReader ends a slow decode when the context is done.
type doneReader struct {
	ctx context.Context
	r   io.Reader
}

func (d *doneReader) Read(p []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	return d.r.Read(p)
}

// Decode decodes one encoded picture (PNG, JPEG or WebP) safely, the way Open
// does, and returns it as [Size, Size, 3] uint8 RGB. The name is for errors,
// which are of type [Problem].
func Decode(ctx context.Context, name string, data []byte, opt Options) ([]uint8, error) {
	opt, err := opt.prepare()
	if err != nil {
		return nil, err
	}
	return DecodeTo(ctx, name, data, opt.Size, opt.Size, opt)
}

// DecodeTo is Decode to [height, width, 3] RGB: the largest part in the middle
// of the picture that has that shape is resized.
func DecodeTo(ctx context.Context, name string, data []byte, height, width int, opt Options) ([]uint8, error) {
	opt.Size = max(height, width)
	opt, err := opt.prepare()
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > opt.Limits.MaxFileBytes {
		return nil, Problem{File: printable(name), Reason: TooLarge, Detail: fmt.Sprintf("%s; a picture may have at most %s", mib(int64(len(data))), mib(opt.Limits.MaxFileBytes)), Remedy: "send a smaller picture"}
	}
	f, _, p := examine(printable(name), data, opt.Limits)
	if p != nil {
		return nil, *p
	}
	if height < 1 || width < 1 {
		return nil, fmt.Errorf("a picture of %d×%d pixels", width, height)
	}
	dst := make([]uint8, height*width*3)
	if _, p = decodeTo(ctx, printable(name), data, f, dst, height, width, opt.Resize); p != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, *p
	}
	return dst, nil
}
