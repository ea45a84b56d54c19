package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/rpc"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// selfSigned writes a certificate that is its own authority, and its key.
func selfSigned(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestConnectionsThatCannotBe says what to do about each.
func TestConnectionsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir, "server")
	other, _ := selfSigned(t, dir, "other")
	address := func(cfg rpc.Config) string {
		s := rpc.NewServer(cfg, zap.NewNop())
		runv1.RegisterRunServiceServer(s, runv1.UnimplementedRunServiceServer{})
		l, err := rpc.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Start(l)
		t.Cleanup(func() { s.Stop(); <-s.Done() })
		return l.Addr().String()
	}
	tls, err := rpc.ServerTLS{Cert: cert, Key: key}.Credentials(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	encrypted := address(rpc.Config{TLS: tls, Auth: &rpc.Authenticator{}, DrainTimeout: time.Second})
	plain := address(rpc.Config{DrainTimeout: time.Second})
	for _, c := range []struct {
		what, want string
		args       []string
	}{
		{"nobody", "show " + encrypted + " who this is", []string{"--server", encrypted, "--tls-ca", cert}},
		{"another authority", "is --tls-ca the authority", []string{"--server", encrypted, "--tls-ca", other}},
		{"plain text to a server that encrypts", "does the server at " + encrypted + " encrypt?", []string{"--server", encrypted}},
		{"TLS to a server that does not", "does not encrypt", []string{"--server", plain, "--tls-ca", cert}},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"runs", "list"}, c.args...), &out, &errs, nil); code != exitFailed || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: exit code %d, %q; want %q", c.what, code, errs.String(), c.want)
		}
	}
}
