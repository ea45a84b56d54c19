// Package buckettest runs an S3 server for tests: a small one in this process, which keeps objects in memory and can be
// told to fail, or the one that DREAMOOD_S3_TEST names (make s3-check runs a real one).
package buckettest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Server is an S3 server with one empty bucket. The environment of the test names it and its keys.
type Server struct {
	Endpoint string
	Bucket   string
	memory   *memory // nil: another process
}

// Refuse answers what f picks with 503, until it is called with nil. It works on the server of this process alone.
func (s *Server) Refuse(f func(*http.Request) bool) { s.memory.refuse.Store(&f) }

// Requests are how many requests of a method the server of this process has answered.
func (s *Server) Requests(method string) int {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	return s.memory.requests[method]
}

// InProcess says whether the server is the one in this process.
func (s *Server) InProcess() bool { return s.memory != nil }

// URL of the part of the bucket below a prefix.
func (s *Server) URL(prefix string) string { return "s3://" + s.Bucket + "/" + prefix }

// Start runs the server until the end of the test.
func Start(t *testing.T) *Server {
	t.Helper()
	var random [6]byte
	_, _ = rand.Read(random[:])
	s := &Server{Endpoint: os.Getenv("DREAMOOD_S3_TEST"), Bucket: "dreams-" + hex.EncodeToString(random[:])}
	if s.Endpoint == "" {
		s.memory = newMemory()
		server := httptest.NewServer(s.memory)
		t.Cleanup(server.Close)
		s.Endpoint = server.URL
		t.Setenv("AWS_ACCESS_KEY_ID", "test")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", s.Endpoint)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	scheme, host, _ := strings.Cut(s.Endpoint, "://")
	c, err := minio.New(host, &minio.Options{Creds: credentials.NewEnvAWS(), Secure: scheme == "https", Transport: transport, Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(context.Background(), s.Bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}
