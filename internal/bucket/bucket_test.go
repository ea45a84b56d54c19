package bucket_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/bucket"
	"github.com/dreamood/dreamood/internal/bucket/buckettest"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][2]string{
		"s3://a": {"a", ""}, "s3://a/": {"a", ""}, "s3://a/b/c": {"a", "b/c"}, "s3://a/b/": {"a", "b"},
	} {
		name, prefix, err := bucket.Parse(text)
		if err != nil || name != want[0] || prefix != want[1] {
			t.Errorf("%s: %q, %q, %v", text, name, prefix, err)
		}
	}
	for _, text := range []string{"", "a/b", "s3:", "s3:///x", "http://a/b", "s3://key:secret@a/b", "s3://a/b/../c", "s3://a/b//c", "s3://a/b?x=y"} {
		if _, _, err := bucket.Parse(text); err == nil {
			t.Errorf("%q passed", text)
		}
	}
}

func open(t *testing.T, url string) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), url, bucket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestObjects(t *testing.T) {
	s := buckettest.Start(t)
	b, beside := open(t, s.URL("deep/prefix")), open(t, s.URL("deep"))
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20+1) // 32 MiB and 16 bytes: three parts
	for name, content := range map[string][]byte{"small": []byte("dream"), "empty": nil, "a/b c+ü": []byte("odd name"), "large": data} {
		if err := b.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		r, info, err := b.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(back, content) || info.Size != int64(len(content)) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(back), len(content), err)
		}
		tag, err := bucket.ETagOf(bytes.NewReader(content), int64(len(content)))
		if err != nil || tag != info.ETag {
			t.Errorf("%s: ETag %s, the server says %s, %v", name, tag, info.ETag, err)
		}
	}
	var names []string
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if got := strings.Join(names, " "); got != "a/b c+ü empty large small" {
		t.Errorf("listed %s", got)
	}
	if _, err := beside.Stat(t.Context(), "prefix/small"); err != nil {
		t.Errorf("under the shorter prefix: %v", err)
	}
	if err := b.Copy(t.Context(), "large", "copy of large"); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Stat(t.Context(), "copy of large"); err != nil || info.Size != int64(len(data)) {
		t.Errorf("a copy: %+v, %v", info, err)
	}
	if err := b.Remove(t.Context(), "small"); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "small"); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	for _, err := range []error{
		b.Copy(t.Context(), "small", "other"),
		func() error { _, err := b.Stat(t.Context(), "small"); return err }(),
		func() error { _, _, err := b.Open(t.Context(), "small"); return err }(),
	} {
		if !errors.Is(err, bucket.ErrNotFound) {
			t.Errorf("what is not there: %v", err)
		}
	}
	if _, err := bucket.Open(t.Context(), "s3://no-such-bucket-here", bucket.Config{}); err == nil || !strings.Contains(err.Error(), "no-such-bucket-here") {
		t.Errorf("a bucket that is not there: %v", err)
	}
}
