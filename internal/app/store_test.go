package app

import (
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/bucket/buckettest"
	"github.com/dreamood/dreamood/internal/telemetry"
)

func TestBlobsInABucket(t *testing.T) {
	server := buckettest.Start(t)
	for _, metrics := range []*telemetry.Metrics{nil, telemetry.New(telemetry.Config{})} {
		a := &App{cfg: Config{Data: t.TempDir(), Store: server.URL("mesh")}, metrics: metrics}
		if _, err := a.openBlobs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ref, err := artifact.PutBytes(t.Context(), a.blobs, []byte("dream")); err != nil || ref != artifact.RefOf([]byte("dream")) {
			t.Errorf("%s, %v", ref, err)
		}
		if _, mapped := a.blobs.(artifact.Mapper); mapped {
			t.Error("a bucket cannot be mapped")
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
		b := &App{cfg: Config{Data: t.TempDir()}, metrics: metrics}
		if _, err := b.openBlobs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, mapped := b.blobs.(artifact.Mapper); !mapped {
			t.Error("a folder can be mapped")
		}
	}
	a := &App{cfg: Config{Data: t.TempDir(), Store: "s3://nothing-here"}}
	if _, err := a.openBlobs(t.Context()); err == nil || !strings.Contains(err.Error(), "--store") {
		t.Errorf("no such bucket: %v", err)
	}
	if err := (Config{Data: "x", Models: "../../models", Store: "http://x"}).Validate(); err == nil || !strings.Contains(err.Error(), "want s3://") {
		t.Errorf("another scheme: %v", err)
	}
}
