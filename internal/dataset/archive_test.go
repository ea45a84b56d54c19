package dataset

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestArchiveBombs packs zeros that unpack to a thousand times their size.
func TestArchiveBombs(t *testing.T) {
	ms := animals(2, "")
	zeros := make([]byte, 4<<20)
	for _, name := range []string{"cat/a.png", "cat/b.png", "dog/c.png"} {
		ms = append(ms, member{name: name, data: zeros})
	}
	_, err := Open(t.Context(), writeFile(t, "bomb.zip", packZip(t, zip.Deflate, ms)), Options{})
	requireProblem(t, err, ArchiveBomb, "cat/b.png: up to here the archive unpacks to more than 200 times its size")
	_, err = Open(t.Context(), writeFile(t, "bomb.tar.gz", gzipped(t, packTar(t, ms))), Options{})
	requireProblem(t, err, ArchiveBomb, "unpacks to more than 200 times its size")
}

// TestZipThatLiesAboutSizes claims 2^64-1 bytes for each of two entries, whose
// sum would wrap, and fewer bytes than there are for a third.
func TestZipThatLiesAboutSizes(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"cat/a.png", "dog/a.png"} {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: name, UncompressedSize64: 1<<64 - 1, CompressedSize64: 4, Method: zip.Deflate}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), writeFile(t, "lie.zip", b.Bytes()), Options{})
	requireProblem(t, err, ArchiveBomb, "cat/a.png")

	data := packZip(t, zip.Store, animals(2, ""))
	at := bytes.Index(data, []byte("PK\x01\x02")) // the first entry of the directory
	binary.LittleEndian.PutUint32(data[at+24:], 60)
	_, err = Open(t.Context(), writeFile(t, "short.zip", data), Options{})
	requireProblem(t, err, Unreadable, "cat/00.png: the picture cannot be read")
}

func TestZipDamage(t *testing.T) {
	clean := packZip(t, zip.Store, animals(2, ""))
	body := bytes.Index(clean, []byte("IDAT"))
	data := bytes.Clone(clean)
	data[body+6] ^= 0xff
	_, err := Open(t.Context(), writeFile(t, "flip.zip", data), Options{})
	requireProblem(t, err, Unreadable, "cat/00.png: the picture cannot be read: zip: checksum error")

	data = bytes.Clone(clean)
	at := bytes.Index(data, []byte("PK\x01\x02"))
	data[at+8] |= 1 // encrypted
	_, err = Open(t.Context(), writeFile(t, "locked.zip", data), Options{})
	requireProblem(t, err, Unreadable, "cat/00.png: the file is encrypted; pack the dataset again without a password")
}

func TestZipDirectoryIsBounded(t *testing.T) {
	ms := animals(2, "")
	for range 9000 { // 9,000 × 130 bytes
		ms = append(ms, member{name: "cat/" + string(bytes.Repeat([]byte("n"), 80)) + ".png"})
	}
	file := writeFile(t, "many.zip", packZip(t, zip.Store, ms))
	_, err := Open(t.Context(), file, Options{Limits: Limits{MaxEntries: 10}})
	requireProblem(t, err, TooMany, "the directory of the archive is too long for 10 files")
}

func TestTarSpecialEntries(t *testing.T) {
	var b bytes.Buffer
	b.Write(packTar(t, animals(2, ""))[:4*1024]) // without the end mark
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "as git archive writes it"}},
		{Name: "cat/pipe.png", Typeflag: tar.TypeFifo},
		{Name: "cat/hard.png", Typeflag: tar.TypeLink, Linkname: "cat/00.png"},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), writeFile(t, "special.tar", b.Bytes()), Options{})
	requireProblem(t, err, SpecialFile, "cat/pipe.png: neither a file nor a folder")
	requireProblem(t, err, Link, "cat/hard.png: a link")
}
