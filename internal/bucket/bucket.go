// Package bucket is a part of an S3 bucket: all objects below a prefix, on AWS or on any server that speaks its protocol.
//
// Where it is and who we are comes from the environment, as for every tool of AWS: AWS_ENDPOINT_URL_S3 or
// AWS_ENDPOINT_URL (http:// or https://; default AWS itself), AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_SESSION_TOKEN, the shared credentials file, or the role of the machine.
package bucket

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrNotFound means that there is no object of that name.
var ErrNotFound = errors.New("no such object")

// Scheme begins the URL of a bucket.
const Scheme = "s3://"

// partSize is that of multipart uploads, in bytes; what is larger goes in parts, and is seen only when all are there.
const partSize = 16 << 20

// Config says where a bucket is, in place of the environment.
type Config struct {
	Endpoint  string            // "" = of the environment
	Region    string            // "" = of the environment, or us-east-1
	Transport http.RoundTripper // nil = one of its own
}

// Bucket is the objects below a prefix. It is safe for concurrent use; Close it.
type Bucket struct {
	client       *minio.Client
	name, prefix string
	url          string
	idle         interface{ CloseIdleConnections() }
}

// Info is what a server says of an object.
type Info struct {
	Name     string // below the prefix
	Size     int64
	ETag     string
	Modified time.Time // by the server's clock; whole seconds, but from List
}

// Parse takes s3://BUCKET/PREFIX apart; the prefix may be empty.
func Parse(text string) (name, prefix string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", "", fmt.Errorf("%q: want s3://BUCKET or s3://BUCKET/PREFIX", text)
	}
	prefix = strings.Trim(u.Path, "/")
	for _, part := range strings.Split(prefix, "/") {
		if prefix != "" && (part == "" || part == "." || part == "..") {
			return "", "", fmt.Errorf("%q: parts of the prefix may not be empty, nor lead to other folders", text)
		}
	}
	return u.Host, prefix, nil
}

// Open connects to the bucket of a URL; see Parse. A bucket that is not there, or is not ours to see, is an error.
func Open(ctx context.Context, text string, cfg Config) (*Bucket, error) {
	name, prefix, err := Parse(text)
	if err != nil {
		return nil, err
	}
	b := &Bucket{name: name, prefix: prefix, url: strings.TrimSuffix(text, "/")}
	endpoint := first(cfg.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s: the endpoint %q is no http:// or https:// address; see AWS_ENDPOINT_URL_S3", text, endpoint)
	}
	if cfg.Transport == nil {
		t, err := minio.DefaultTransport(u.Scheme == "https")
		if err != nil {
			return nil, err
		}
		cfg.Transport, b.idle = t, t
	}
	b.client, err = minio.New(u.Host, &minio.Options{
		Secure: u.Scheme == "https", Transport: cfg.Transport, Region: first(cfg.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Transport: cfg.Transport, Timeout: 5 * time.Second}},
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	ok, err := b.client.BucketExists(ctx, name)
	if err == nil && !ok {
		err = errors.New("there is no such bucket; make it first")
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("%s at %s: %w", text, endpoint, err)
	}
	return b, nil
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// Close gives idle connections back.
func (b *Bucket) Close() {
	if b.idle != nil {
		b.idle.CloseIdleConnections()
	}
}

func (b *Bucket) String() string { return b.url }

func (b *Bucket) key(name string) string {
	if b.prefix == "" {
		return name
	}
	return b.prefix + "/" + name
}

// Put writes an object of size bytes. It is seen whole or not at all.
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	_, err := b.client.PutObject(ctx, b.name, b.key(name), r, size, minio.PutObjectOptions{
		PartSize: partSize, NumThreads: 4, ContentType: "application/octet-stream",
	})
	return b.explain("write", name, err)
}

// Open reads an object. ErrNotFound when there is none.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	o, err := b.client.GetObject(ctx, b.name, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, Info{}, b.explain("read", name, err)
	}
	info, err := o.Stat()
	if err != nil {
		o.Close()
		return nil, Info{}, b.explain("read", name, err)
	}
	return o, b.info(info), nil
}

// Stat says what is known of an object. ErrNotFound when there is none.
func (b *Bucket) Stat(ctx context.Context, name string) (Info, error) {
	info, err := b.client.StatObject(ctx, b.name, b.key(name), minio.StatObjectOptions{})
	return b.info(info), b.explain("look at", name, err)
}

// Copy writes an object anew under another name.
func (b *Bucket) Copy(ctx context.Context, from, to string) error {
	_, err := b.client.CopyObject(ctx,
		minio.CopyDestOptions{Bucket: b.name, Object: b.key(to)},
		minio.CopySrcOptions{Bucket: b.name, Object: b.key(from)})
	return b.explain("copy", from, err)
}

// Remove removes an object. None is no error.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	return b.explain("remove", name, b.client.RemoveObject(ctx, b.name, b.key(name), minio.RemoveObjectOptions{}))
}

// List hands over the objects whose names begin so, in order of their names.
func (b *Bucket) List(ctx context.Context, begin string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.key(begin), Recursive: true}) {
			if !yield(b.info(o), b.explain("list", begin, o.Err)) || o.Err != nil {
				return
			}
		}
	}
}

// Abandoned ends uploads of objects whose names begin so, begun before then and never finished, and says how many parts
// of how many bytes they had.
func (b *Bucket) Abandoned(ctx context.Context, begin string, before time.Time, dryRun bool) (uploads, bytes int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range b.client.ListIncompleteUploads(ctx, b.name, b.key(begin), true) {
		if u.Err != nil {
			return uploads, bytes, b.explain("list unfinished uploads", begin, u.Err)
		}
		if !u.Initiated.Before(before) {
			continue
		}
		if !dryRun {
			if err := b.client.RemoveIncompleteUpload(ctx, b.name, u.Key); err != nil {
				return uploads, bytes, b.explain("end the upload of", begin, err)
			}
		}
		uploads, bytes = uploads+1, bytes+u.Size
	}
	return uploads, bytes, nil
}

func (b *Bucket) info(o minio.ObjectInfo) Info {
	name := o.Key
	if b.prefix != "" {
		name = strings.TrimPrefix(name, b.prefix+"/")
	}
	return Info{Name: name, Size: o.Size, ETag: strings.Trim(o.ETag, `"`), Modified: o.LastModified}
}

func (b *Bucket) explain(what, name string, err error) error {
	if err == nil {
		return nil
	}
	switch minio.ToErrorResponse(err).Code {
	case "NoSuchKey", "NotFound":
		err = ErrNotFound
	}
	return fmt.Errorf("%s %s/%s: %w", what, b.url, name, err)
}

// ETagOf is the ETag that servers without encryption of their own give to what Put writes: the MD5 of the content, or of
// those of the parts. Equal ETags mean equal content; other ones mean nothing.
func ETagOf(r io.Reader, size int64) (string, error) {
	if size <= partSize {
		h := md5.New()
		_, err := io.Copy(h, r)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	all, parts := md5.New(), 0
	for left := size; left > 0; left -= partSize {
		h := md5.New()
		if _, err := io.CopyN(h, r, min(left, partSize)); err != nil {
			return "", err
		}
		all.Write(h.Sum(nil))
		parts++
	}
	return fmt.Sprintf("%x-%d", all.Sum(nil), parts), nil
}
