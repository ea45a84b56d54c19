package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/dreamood/dreamood/internal/bus"
)

// authority issues certificates into a folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _, a.key = a.issue(t, a.cert)
	return a
}

// issue signs a certificate; an authority's first one is its own.
func (a *authority) issue(t *testing.T, c *x509.Certificate) (cert, key string, secret *ecdsa.PrivateKey) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = secret
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<60)); err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &secret.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, c.Subject.CommonName+".pem"), filepath.Join(a.dir, c.Subject.CommonName+".key")
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	return cert, key, secret
}

// leaf is a certificate for both sides, of 127.0.0.1.
func (a *authority) leaf(t *testing.T, name string) (cert, key string) {
	t.Helper()
	cert, key, _ = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return cert, key
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// account is a NATS account under an operator, with JetStream.
type account struct {
	operator nkeys.KeyPair
	pair     nkeys.KeyPair
	dir      string
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	p, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := p.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p, public
}

// trust has a server know an operator with one account.
func trust(t *testing.T, options *server.Options) *account {
	t.Helper()
	a := &account{dir: t.TempDir()}
	var operator, id string
	a.operator, operator = pair(t, nkeys.CreateOperator)
	a.pair, id = pair(t, nkeys.CreateAccount)
	_, system := pair(t, nkeys.CreateAccount) // JetStream asks for one, without JetStream
	accounts := &server.MemAccResolver{}
	for _, public := range []string{id, system} {
		claims := jwt.NewAccountClaims(public)
		if public == id {
			claims.Limits.DiskStorage, claims.Limits.MemoryStorage = jwt.NoLimit, jwt.NoLimit
		}
		text, err := claims.Encode(a.operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := accounts.Store(public, text); err != nil {
			t.Fatal(err)
		}
	}
	options.TrustedKeys, options.AccountResolver, options.SystemAccount = []string{operator}, accounts, system
	return a
}

// creds writes the credentials file of a user, as `nsc generate creds` does.
func (a *account) creds(t *testing.T, name string, change func(*jwt.UserClaims)) string {
	t.Helper()
	user, id := pair(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(id)
	claims.Name = name
	if change != nil {
		change(claims)
	}
	text, err := claims.Encode(a.pair)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(a.dir, name+".creds")
	write(t, path, file)
	return path
}

// start runs a NATS server that demands TLS from both sides and credentials.
func start(t *testing.T, ca *authority, options *server.Options) *server.Server {
	t.Helper()
	cert, key := ca.leaf(t, "server")
	config, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: cert, KeyFile: key, CaFile: ca.file, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	config.MinVersion = tls.VersionTLS13
	options.Host, options.Port, options.NoSigs, options.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	options.JetStream, options.StoreDir = true, t.TempDir()
	options.TLS, options.TLSVerify, options.TLSTimeout, options.TLSConfig = true, true, 10, config
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

// TestOutsideServerWithTLSAndCredentials: a server outside that demands certificates and JWT credentials takes who has
// both, and everybody else is told what is wrong.
func TestOutsideServerWithTLSAndCredentials(t *testing.T) {
	ca, strangers := newAuthority(t), newAuthority(t)
	options := &server.Options{}
	known := trust(t, options)
	unknown := trust(t, &server.Options{})
	s := start(t, ca, options)
	cert, key := ca.leaf(t, "client")
	strange, strangeKey := strangers.leaf(t, "stranger")
	right := bus.Config{
		URL: s.ClientURL(), CAFile: ca.file, CertFile: cert, KeyFile: key, CredsFile: known.creds(t, "role", nil), ConnectWait: 30 * time.Second,
	}
	b := open(t, right)
	if _, err := b.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.JetStream().Publish(t.Context(), "s", []byte("dream")); err != nil {
		t.Error(err)
	}
	if state, err := b.Conn().TLSConnectionState(); err != nil || state.Version != tls.VersionTLS13 || len(state.VerifiedChains) == 0 {
		t.Errorf("the connection is not encrypted by TLS 1.3 and verified: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*bus.Config)
		want   []string
	}{
		"no credentials":            {func(c *bus.Config) { c.CredsFile = "" }, []string{"refused", "credentials file"}},
		"another operator's":        {func(c *bus.Config) { c.CredsFile = unknown.creds(t, "role", nil) }, []string{"refused", "credentials file"}},
		"credentials that are over": {func(c *bus.Config) { c.CredsFile = known.creds(t, "late", expire) }, []string{"refused", "credentials file"}},
		"a password instead":        {func(c *bus.Config) { c.CredsFile, c.User, c.Password = "", "role", "secret" }, []string{"refused", "credentials file"}},
		"no authority":              {func(c *bus.Config) { c.CAFile = "" }, []string{"certificate", "authorit"}},
		"another authority":         {func(c *bus.Config) { c.CAFile = strangers.file }, []string{"certificate", "authorit"}},
		"no certificate":            {func(c *bus.Config) { c.CertFile, c.KeyFile = "", "" }, []string{"certificate"}},
		"a stranger's certificate":  {func(c *bus.Config) { c.CertFile, c.KeyFile = strange, strangeKey }, []string{"certificate"}},
	} {
		cfg := right
		cfg.ConnectWait = time.Second
		c.change(&cfg)
		got, err := bus.Open(t.Context(), cfg)
		if err == nil {
			got.Close()
			t.Errorf("%s: let in", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %q", name, err, want)
			}
		}
	}
}

func expire(c *jwt.UserClaims) { c.Expires = time.Now().Add(-time.Minute).Unix() }

// TestEmbeddedServerWithTLS: the server that --nats-listen opens takes other processes with a certificate of its
// authority and the password, and nobody else; its own process needs neither.
func TestEmbeddedServerWithTLS(t *testing.T) {
	ca, strangers := newAuthority(t), newAuthority(t)
	cert, key := ca.leaf(t, "server")
	b := open(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", CAFile: ca.file, CertFile: cert, KeyFile: key, User: "role", Password: "secret"})
	if _, err := b.JetStream().AccountInfo(t.Context()); err != nil {
		t.Error(err)
	}
	client, clientKey := ca.leaf(t, "client")
	strange, strangeKey := strangers.leaf(t, "stranger")
	right := bus.Config{URL: b.URL(), CAFile: ca.file, CertFile: client, KeyFile: clientKey, User: "role", Password: "secret", ConnectWait: 30 * time.Second}
	other := open(t, right)
	if _, err := other.JetStream().AccountInfo(t.Context()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*bus.Config){
		"no certificate":           func(c *bus.Config) { c.CertFile, c.KeyFile = "", "" },
		"a stranger's certificate": func(c *bus.Config) { c.CertFile, c.KeyFile = strange, strangeKey },
		"a wrong password":         func(c *bus.Config) { c.Password = "guess" },
	} {
		cfg := right
		cfg.ConnectWait = time.Second
		change(&cfg)
		if got, err := bus.Open(t.Context(), cfg); err == nil {
			got.Close()
			t.Errorf("%s: let in", name)
		}
	}
}
