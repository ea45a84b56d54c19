package buckettest

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// memory speaks as much of S3's REST API as the bucket package uses: objects, copies, lists and multipart uploads. It
// checks no signatures.
type memory struct {
	refuse atomic.Pointer[func(*http.Request) bool]

	mu       sync.Mutex
	buckets  map[string]bool
	objects  map[string]object // by bucket/key
	uploads  map[string]*upload
	requests map[string]int
}

type object struct {
	data     []byte
	tag      string
	modified time.Time
}

type upload struct {
	path  string
	begun time.Time
	parts map[int][]byte
}

func newMemory() *memory {
	return &memory{buckets: map[string]bool{}, objects: map[string]object{}, uploads: map[string]*upload{}, requests: map[string]int{}}
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := m.refuse.Load(); f != nil && *f != nil && (*f)(r) {
		// The body is read first: minio-go v7.4.1 seeks in what it sends while the transport still reads it when an answer
		// comes early, a data race of its own. Sent so, a part does not have its checksum and is sent again.
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := content(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidRequest")
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[r.Method]++
	path := strings.TrimPrefix(r.URL.Path, "/")
	bucket, key, _ := strings.Cut(path, "/")
	q := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodPut:
		m.buckets[bucket] = true
	case !m.buckets[bucket]:
		fail(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodHead:
	case key == "" && q.Has("uploads"):
		m.listUploads(w, bucket, q.Get("prefix"))
	case key == "":
		m.list(w, bucket, q)
	case q.Has("uploads") || q.Has("uploadId"):
		m.multipart(w, r, path, body)
	case r.Method == http.MethodPut:
		m.put(w, r, path, body)
	case r.Method == http.MethodDelete:
		delete(m.objects, path)
		w.WriteHeader(http.StatusNoContent)
	default:
		o, ok := m.objects[path]
		if !ok {
			fail(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", `"`+o.tag+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.data))
	}
}

func (m *memory) put(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	from := r.Header.Get("X-Amz-Copy-Source")
	if from != "" {
		from, _ = url.PathUnescape(strings.TrimPrefix(from, "/"))
		o, ok := m.objects[from]
		if !ok {
			fail(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		o.modified = time.Now()
		m.objects[path] = o
		fmt.Fprintf(w, `<CopyObjectResult><ETag>"%s"</ETag><LastModified>%s</LastModified></CopyObjectResult>`, o.tag, stamp(o.modified))
		return
	}
	sum := md5.Sum(body)
	m.objects[path] = object{body, hex.EncodeToString(sum[:]), time.Now()}
	w.Header().Set("ETag", `"`+m.objects[path].tag+`"`)
}

func (m *memory) list(w http.ResponseWriter, bucket string, q url.Values) {
	const page = 1000
	after := max(q.Get("continuation-token"), q.Get("start-after"))
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		EncodingType          string
		Contents              []struct {
			Key, ETag, LastModified string
			Size                    int
		}
	}
	for _, path := range slices.Sorted(maps.Keys(m.objects)) {
		key, ok := strings.CutPrefix(path, bucket+"/")
		if !ok || !strings.HasPrefix(key, q.Get("prefix")) || key <= after {
			continue
		}
		if len(out.Contents) == page {
			out.IsTruncated = true
			break
		}
		out.NextContinuationToken = key
		shown := key
		if out.EncodingType = q.Get("encoding-type"); out.EncodingType == "url" {
			shown = url.QueryEscape(key)
		}
		o := m.objects[path]
		out.Contents = append(out.Contents, struct {
			Key, ETag, LastModified string
			Size                    int
		}{shown, `"` + o.tag + `"`, stamp(o.modified), len(o.data)})
	}
	_ = xml.NewEncoder(w).Encode(out)
}

func (m *memory) listUploads(w http.ResponseWriter, bucket, prefix string) {
	fmt.Fprint(w, `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>`)
	for id, u := range m.uploads {
		if key, ok := strings.CutPrefix(u.path, bucket+"/"); ok && strings.HasPrefix(key, prefix) {
			fmt.Fprintf(w, `<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>`, key, id, stamp(u.begun))
		}
	}
	fmt.Fprint(w, `</ListMultipartUploadsResult>`)
}

func (m *memory) multipart(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	u := m.uploads[id]
	if u == nil && !q.Has("uploads") {
		fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	switch {
	case q.Has("uploads"):
		id = strconv.Itoa(m.requests[http.MethodPost])
		m.uploads[id] = &upload{path, time.Now(), map[int][]byte{}}
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case r.Method == http.MethodPut:
		n, err := strconv.Atoi(q.Get("partNumber"))
		if err != nil {
			fail(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
		u.parts[n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(body)))
	case r.Method == http.MethodGet: // the parts that there are
		fmt.Fprint(w, `<ListPartsResult><IsTruncated>false</IsTruncated>`)
		for n, part := range u.parts {
			fmt.Fprintf(w, `<Part><PartNumber>%d</PartNumber><Size>%d</Size></Part>`, n, len(part))
		}
		fmt.Fprint(w, `</ListPartsResult>`)
	case r.Method == http.MethodDelete:
		delete(m.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		var data, sums []byte
		for n := 1; n <= len(u.parts); n++ {
			sum := md5.Sum(u.parts[n])
			data, sums = append(data, u.parts[n]...), append(sums, sum[:]...)
		}
		tag := fmt.Sprintf("%x-%d", md5.Sum(sums), len(u.parts))
		m.objects[path] = object{data, tag, time.Now()}
		delete(m.uploads, id)
		bucket, key, _ := strings.Cut(path, "/")
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>%s</Key><ETag>"%s"</ETag></CompleteMultipartUploadResult>`, bucket, key, tag)
	}
}

// content is the body of a request, without the frames of aws-chunked.
func content(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	var data []byte
	for in := bufio.NewReader(r.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		length, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(length, 16, 32)
		if err != nil || n == 0 {
			return data, err
		}
		chunk := make([]byte, n+2) // with its end of line
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		data = append(data, chunk[:n]...)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<Error><Code>%s</Code><Message>%s</Message></Error>`, code, code)
}
