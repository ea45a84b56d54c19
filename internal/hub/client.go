// Package hub downloads files of model repositories from the Hugging Face Hub, or from a server that speaks its
// protocol: the files of a revision, their checksums, and the files themselves, resumed where they were cut.
package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultEndpoint is the hub itself.
const DefaultEndpoint = "https://huggingface.co"

// Config of a client. The zero value asks the hub without a token.
type Config struct {
	Endpoint string            // default DefaultEndpoint
	Token    string            // sent to the endpoint alone, never to where it redirects
	Attempts int               // without progress, until a request is given up; default 6
	Backoff  time.Duration     // before the second attempt, then twice as long each time, at most a minute; default 1 s
	Stall    time.Duration     // how long a server may send nothing; default 1 min
	Agent    string            // default "dreamood"
	Note     func(what string) // told of what is tried again; nil is nobody
}

func (c Config) withDefaults() Config {
	c.Endpoint = strings.TrimRight(cmp.Or(c.Endpoint, DefaultEndpoint), "/")
	c.Attempts = cmp.Or(c.Attempts, 6)
	c.Backoff = cmp.Or(c.Backoff, time.Second)
	c.Stall = cmp.Or(c.Stall, time.Minute)
	c.Agent = cmp.Or(c.Agent, "dreamood")
	if c.Note == nil {
		c.Note = func(string) {}
	}
	return c
}

// Client asks one endpoint. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

// New checks the configuration.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	base, err := url.Parse(cfg.Endpoint)
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("hub: endpoint %q: want https://HOST", cfg.Endpoint)
	}
	if strings.ContainsAny(cfg.Token, "\r\n ") {
		return nil, errors.New("hub: the token holds white space")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: cfg.Stall}).DialContext
	transport.ResponseHeaderTimeout = cfg.Stall
	transport.DisableCompression = true // sizes and ranges are those of the files
	return &Client{cfg: cfg, base: base, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Endpoint is the server that is asked.
func (c *Client) Endpoint() string { return c.cfg.Endpoint }

var repoName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$`)

// CheckRepo refuses what is no name of a repository.
func CheckRepo(repo string) error {
	if !repoName.MatchString(repo) || strings.Contains(repo, "..") {
		return fmt.Errorf("%q is no repository; want ORGANISATION/NAME", repo)
	}
	return nil
}

// Revision is a repository at one commit.
type Revision struct {
	Commit string
	Files  []string // slash-separated
}

const maxAnswer = 32 << 20 // bytes of an answer in JSON

var commitName = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Revision asks which commit a branch, tag or commit is, and which files it has.
func (c *Client) Revision(ctx context.Context, repo, revision string) (Revision, error) {
	if err := CheckRepo(repo); err != nil {
		return Revision{}, err
	}
	var out Revision
	at := c.base.String() + "/api/models/" + repo + "/revision/" + url.PathEscape(revision)
	err := c.retry(ctx, repo, func(ctx context.Context) (bool, error) {
		r, err := c.send(ctx, http.MethodGet, at, nil)
		if err != nil {
			return false, err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return false, c.refusal(r, fmt.Sprintf("%s at revision %q", repo, revision))
		}
		var answer struct {
			SHA      string
			Siblings []struct{ RFilename string }
		}
		if err := json.NewDecoder(io.LimitReader(r.Body, maxAnswer)).Decode(&answer); err != nil {
			return false, fmt.Errorf("read the files of %s: %w", repo, err)
		}
		if !commitName.MatchString(answer.SHA) {
			return false, final(fmt.Errorf("%s names %q as the commit of %s", at, answer.SHA, repo))
		}
		out = Revision{Commit: answer.SHA}
		for _, s := range answer.Siblings {
			out.Files = append(out.Files, s.RFilename)
		}
		return true, nil
	})
	return out, err
}

// File is a file of a repository, as the server announces it.
type File struct {
	Path   string
	Bytes  int64  // -1 where the server does not say it
	SHA256 string // of large files, hex
	Git    string // of small files: sha1 of "blob BYTES\0" and the content, hex
}

var etag = regexp.MustCompile(`^(W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?$`)

// Stat asks for the size and the checksum of a file.
func (c *Client) Stat(ctx context.Context, repo, commit, path string) (File, error) {
	f := File{Path: path}
	err := c.retry(ctx, path, func(ctx context.Context) (bool, error) {
		r, err := c.send(ctx, http.MethodHead, c.resolve(repo, commit, path), nil)
		if err != nil {
			return false, err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK && r.StatusCode/100 != 3 {
			return false, c.refusal(r, fmt.Sprintf("%s of %s", path, repo))
		}
		if got := r.Header.Get("X-Repo-Commit"); got != "" && got != commit {
			return false, final(fmt.Errorf("%s of %s is of commit %q, want %s: the server does not keep to the revision", path, repo, got, commit))
		}
		m := etag.FindStringSubmatch(cmp.Or(r.Header.Get("X-Linked-Etag"), r.Header.Get("ETag")))
		if m == nil {
			return false, final(fmt.Errorf("%s of %s: the server gives no checksum (X-Linked-Etag or ETag is %q), so the file could not be verified",
				path, repo, cmp.Or(r.Header.Get("X-Linked-Etag"), r.Header.Get("ETag"))))
		}
		if f.SHA256, f.Git = "", m[2]; len(m[2]) == 64 {
			f.SHA256, f.Git = m[2], ""
		}
		f.Bytes = r.ContentLength
		if r.StatusCode != http.StatusOK {
			f.Bytes = -1 // that of the redirection
		}
		if size, err := strconv.ParseInt(r.Header.Get("X-Linked-Size"), 10, 64); err == nil && size >= 0 {
			f.Bytes = size
		}
		return true, nil
	})
	return f, err
}

func (c *Client) resolve(repo, commit, path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return c.base.String() + "/" + repo + "/resolve/" + url.PathEscape(commit) + "/" + strings.Join(parts, "/")
}

const maxRedirects = 5

// send sends a request and follows redirections: a HEAD only within the endpoint, since what the endpoint says of a
// large file stands beside its redirection. The token goes to the endpoint alone.
func (c *Client) send(ctx context.Context, method, at string, header http.Header) (*http.Response, error) {
	for range maxRedirects + 1 {
		q, err := http.NewRequestWithContext(ctx, method, at, nil)
		if err != nil {
			return nil, final(err)
		}
		for k, v := range header {
			q.Header[k] = v
		}
		q.Header.Set("User-Agent", c.cfg.Agent)
		q.Header.Set("Accept-Encoding", "identity")
		own := q.URL.Scheme == c.base.Scheme && q.URL.Host == c.base.Host
		if own && c.cfg.Token != "" {
			q.Header.Set("Authorization", "Bearer "+c.cfg.Token)
		}
		r, err := c.http.Do(q)
		if err != nil {
			return nil, withoutQuery(err)
		}
		location := r.Header.Get("Location")
		if r.StatusCode/100 != 3 || location == "" {
			return r, nil
		}
		next, err := q.URL.Parse(location)
		if err != nil {
			r.Body.Close()
			return nil, final(fmt.Errorf("%s redirects to %.200q", q.URL.Redacted(), location))
		}
		if method == http.MethodHead && (next.Host != c.base.Host || r.Header.Get("X-Linked-Etag") != "") {
			return r, nil
		}
		r.Body.Close()
		if next.Scheme != "https" && (q.URL.Scheme == "https" || next.Scheme != "http") {
			return nil, final(fmt.Errorf("%s redirects from https to %q, which is refused", q.URL.Host, next.Scheme+"://"+next.Host))
		}
		at = next.String()
	}
	return nil, final(fmt.Errorf("%s: more than %d redirections", c.base.Host, maxRedirects))
}

// withoutQuery keeps signatures in the addresses of storage out of messages.
func withoutQuery(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		at, _, _ := strings.Cut(u.URL, "?")
		return fmt.Errorf("%s %s: %w", strings.ToUpper(u.Op), at, u.Err)
	}
	return err
}
