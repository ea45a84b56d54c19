package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
)

// authority issues certificates into files.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

var serial atomic.Int64

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), name+".pem")}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}

	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes NAME.pem and NAME.key into dir, replacing both, and returns their paths.
func (a *authority) issue(t *testing.T, dir, name string, change func(*x509.Certificate)) (cert, key string) {
	t.Helper()

	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", raw)
	return cert, key
}

func uri(text string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		c.URIs = []*url.URL{u}
	}
}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// guarded is a server with TLS, client certificates and tokens, over TCP, whose GetRun answers with the caller's name
// and role.
type guarded struct {
	ca, clients *authority
	dir, addr   string
	cert, key   string
	directory   string            // file of identities
	tokens      map[string]string // files of tokens, by name
	log         *observer.ObservedLogs
}

func serveGuarded(t *testing.T) *guarded {
	t.Helper()
	core, log := observer.New(zap.DebugLevel)
	g := &guarded{ca: newAuthority(t, "server-ca"), clients: newAuthority(t, "client-ca"), dir: t.TempDir(), tokens: map[string]string{}, log: log}
	g.cert, g.key = g.ca.issue(t, g.dir, "server", nil)
	lines := "# who\nlisted:viewer:cert\n"
	for name, role := range map[string]auth.Role{"alice": auth.Client, "root": auth.Admin, "eye": auth.Viewer, "sampler": auth.Service} {
		token, line, err := auth.NewToken(auth.Identity{Name: name, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		lines += line + "\n"
		g.tokens[name] = filepath.Join(g.dir, name+".token")
		writeFile(t, g.tokens[name], token+"\n")
	}
	g.directory = filepath.Join(g.dir, "identities")
	writeFile(t, g.directory, lines)
	tls, err := ServerTLS{g.cert, g.key, g.clients.file}.Credentials(zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	known, err := OpenDirectory(g.directory, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{DrainTimeout: time.Second, TLS: tls, Auth: &Authenticator{Directory: known}}, zap.New(core))
	runv1.RegisterRunServiceServer(s, runs{get: func(ctx context.Context, _ *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		who, _ := auth.From(ctx)
		return &runv1.GetRunResponse{Run: &runv1.Run{Owner: string(who.Role) + " " + who.Name}}, nil
	}})
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	s.Start(l)
	t.Cleanup(func() {
		s.Stop()
		<-s.Done()
	})
	return g
}

func (g *guarded) dial(t *testing.T, c Credentials) *grpc.ClientConn {
	t.Helper()
	conn, err := c.Dial(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask returns who the server says that the client is, or the error's reason.
func ask(t *testing.T, ctx context.Context, conn *grpc.ClientConn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := runv1.NewRunServiceClient(conn).GetRun(ctx, &runv1.GetRunRequest{})
	if err != nil {
		return string(fault.ReasonOf(err)) + ": " + err.Error()
	}
	return r.Run.Owner
}

func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	mine := t.TempDir()
	client := func(name string, by *authority, change func(*x509.Certificate)) Credentials {
		c := Credentials{CA: g.ca.file}
		c.Cert, c.Key = by.issue(t, mine, name, change)
		return c
	}
	token := func(c Credentials, file string) Credentials { c.TokenFile = file; return c }
	wrong := filepath.Join(mine, "wrong.token")
	writeFile(t, wrong, "dreamood_wrong")
	secure := Credentials{CA: g.ca.file}
	for _, c := range []struct {
		what string
		who  Credentials
		want string
	}{
		{"no token", secure, "UNAUTHENTICATED: no token, and no client certificate"},
		{"a token", token(secure, g.tokens["alice"]), "client alice"},
		{"an admin's token", token(secure, g.tokens["root"]), "admin root"},
		{"a wrong token", token(secure, wrong), "UNAUTHENTICATED: the token is not known"},
		{"a wrong token beside a good certificate", token(client("w", g.clients, uri("dreamood://admin/w")), wrong), "UNAUTHENTICATED: the token"},
		{"a certificate with role and name", client("x", g.clients, uri("dreamood://admin/carol@example.org")), "admin carol@example.org"},
		{"a certificate that is listed by its common name", client("listed", g.clients, nil), "viewer listed"},
		{"a certificate that says no role", client("stranger", g.clients, nil), "UNAUTHENTICATED: the client certificate is good, and says no role"},
		{"a certificate with an unknown role", client("y", g.clients, uri("dreamood://king/carol")), "UNAUTHENTICATED: the client certificate is good"},
		{"a certificate with another URI", client("z", g.clients, uri("spiffe://mesh/z")), "UNAUTHENTICATED: the client certificate is good"},
		{"a certificate of another authority", client("v", newAuthority(t, "other"), uri("dreamood://admin/v")), "UNAUTHENTICATED: no token, and no"}, // Go shows it to nobody who does not ask for that authority,
		{"a certificate of the servers' authority", client("u", g.ca, uri("dreamood://admin/u")), "UNAUTHENTICATED: no token, and no"},
		{"a certificate for servers alone", client("s", g.clients, func(c *x509.Certificate) {
			uri("dreamood://admin/s")(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), "UNAVAILABLE: "},
		{"another authority of servers", token(Credentials{CA: g.clients.file}, g.tokens["alice"]), "UNAVAILABLE: "},
		{"the authorities of the system", token(Credentials{TLS: true}, g.tokens["alice"]), "UNAVAILABLE: "},
		{"plain text", token(Credentials{}, g.tokens["alice"]), "UNAVAILABLE: "},
	} {
		if got := ask(t, t.Context(), g.dial(t, c.who)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	for _, name := range []string{"alice", "root", "eye", "sampler"} {
		secret, err := os.ReadFile(g.tokens[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range g.log.All() {
			for _, value := range line.ContextMap() {
				if text, ok := value.(string); ok && strings.Contains(text, strings.TrimSpace(string(secret))) {
					t.Errorf("the token of %s is in the log: %v", name, line)
				}
			}
		}
	}
	if g.log.FilterMessage("call refused").Len() < 5 {
		t.Error("refused calls are not in the log")
	}
}

// TestCertificatesThatAreForced: a client that shows its certificate to everybody meets the check of the server.
func TestCertificatesThatAreForced(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	roots, err := pool("ca", readFile(t, g.ca.file))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for what, c := range map[string]struct {
		by     *authority
		change func(*x509.Certificate)
		want   string
	}{
		"a good one":                         {g.clients, uri("dreamood://admin/v"), "admin v"},
		"of another authority":               {newAuthority(t, "other"), uri("dreamood://admin/v"), "UNAVAILABLE: "},
		"of an authority with the same name": {newAuthority(t, "client-ca"), uri("dreamood://admin/v"), "UNAVAILABLE: "},
		"of the servers' authority":          {g.ca, uri("dreamood://admin/v"), "UNAVAILABLE: "},
		"expired":                            {g.clients, func(c *x509.Certificate) { uri("dreamood://admin/v")(c); expired(c) }, "UNAVAILABLE: "},
	} {
		cert, key := c.by.issue(t, dir, "v", c.change)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(g.addr, options(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		})))...)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, t.Context(), conn); !strings.HasPrefix(got, c.want) {
			t.Errorf("a certificate %s: %q, want %q", what, got, c.want)
		}
		conn.Close()
	}
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestExpiredClientCertificate(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	c := Credentials{CA: g.ca.file}
	c.Cert, c.Key = g.clients.issue(t, t.TempDir(), "old", expired)
	if _, err := c.Dial(g.addr); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("a client with an expired certificate: %v", err)
	}
	if _, err := (ServerTLS{Cert: c.Cert, Key: c.Key}).Credentials(zap.NewNop()); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("a server with an expired certificate: %v", err)
	}
	if _, err := (ServerTLS{Cert: g.cert, Key: c.Key}).Credentials(zap.NewNop()); err == nil || !strings.Contains(err.Error(), "old.key") {
		t.Errorf("a certificate with another key: %v", err)
	}
	if _, err := (ServerTLS{Cert: g.cert, Key: g.key, ClientCA: g.key}).Credentials(zap.NewNop()); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a key as authority: %v", err)
	}
}

// TestExpiryIsSeenByTheOtherSide: who does not look at its own certificate meets the server's check.
func TestExpiryIsSeenByTheOtherSide(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	c := Credentials{CA: g.ca.file}
	// Good when it is read, and over some moments later.
	c.Cert, c.Key = g.clients.issue(t, t.TempDir(), "brief", func(c *x509.Certificate) {
		uri("dreamood://admin/brief")(c)
		c.NotAfter = time.Now().Add(2 * time.Second)
	})
	early := g.dial(t, c)
	late := g.dial(t, c)
	if got := ask(t, t.Context(), early); got != "admin brief" {
		t.Fatalf("before its end: %q", got)
	}
	time.Sleep(4 * time.Second) // NotAfter has whole seconds
	if got := ask(t, t.Context(), late); !strings.HasPrefix(got, "UNAVAILABLE: ") {
		t.Errorf("after its end: %q", got)
	}
}

func TestRolesReachToTheirMethods(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	as := func(name string) runv1.RunServiceClient {
		return runv1.NewRunServiceClient(g.dial(t, Credentials{CA: g.ca.file, TokenFile: g.tokens[name]}))
	}
	for name, want := range map[string]codes.Code{"eye": codes.PermissionDenied, "alice": codes.Unimplemented, "root": codes.Unimplemented, "sampler": codes.Unimplemented} {
		_, err := as(name).CancelRun(t.Context(), &runv1.CancelRunRequest{})
		if got := codeOf[fault.ReasonOf(err)]; want == codes.PermissionDenied && got != want || want != codes.PermissionDenied && got == codes.PermissionDenied {
			t.Errorf("%s cancels: %v", name, err)
		}
		if _, err := as(name).GetRun(t.Context(), &runv1.GetRunRequest{}); err != nil {
			t.Errorf("%s reads: %v", name, err)
		}
	}
}

func TestHealthIsOpenAndReflectionIsNot(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	nobody := g.dial(t, Credentials{CA: g.ca.file})
	if r, err := healthpb.NewHealthClient(nobody).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health for nobody: %v, %v", r, err)
	}
	list := func(conn *grpc.ClientConn) error {
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			return err
		}
		if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	if err := list(nobody); fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("reflection for nobody: %v", err)
	}
	if err := list(g.dial(t, Credentials{CA: g.ca.file, TokenFile: g.tokens["eye"]})); err != nil {
		t.Errorf("reflection for a viewer: %v", err)
	}
}

func TestForWhomAServiceCalls(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	as := func(name string) *grpc.ClientConn {
		return g.dial(t, Credentials{CA: g.ca.file, TokenFile: g.tokens[name]})
	}
	service, alice, root := as("sampler"), as("alice"), as("root")
	forged := func(owners ...string) context.Context {
		ctx := t.Context()
		for _, owner := range owners {
			ctx = metadata.AppendToOutgoingContext(ctx, ownerHeader, owner)
		}
		return ctx
	}
	working := func(name string, role auth.Role) context.Context { // as in a handler of the service
		return auth.With(t.Context(), auth.Identity{Name: name, Role: role})
	}
	for _, c := range []struct {
		what string
		got  string
		want string
	}{
		{"a service for itself", ask(t, t.Context(), service), "service sampler"},
		{"a service for a client", ask(t, working("bob", auth.Client), service), "client bob"},
		{"a service for an admin has a client's rights", ask(t, working("root", auth.Admin), service), "client root"},
		{"a service for a service", ask(t, working("trainer", auth.Service), service), "service sampler"},
		{"a service for two", ask(t, forged("bob", "carol"), service), "UNAUTHENTICATED: sampler calls for the owners"},
		{"a service for no name", ask(t, forged("b ob"), service), "UNAUTHENTICATED: sampler calls for the owners"},
		{"a client that says it is bob", ask(t, forged("bob"), alice), "client alice"},
		{"an admin that says it is bob", ask(t, forged("bob"), root), "admin root"},
	} {
		if !strings.HasPrefix(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
}

// TestInsideTheProcess: who calls over the listener inside the process is the process, for those whose calls it serves.
func TestInsideTheProcess(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{DrainTimeout: time.Second, Auth: &Authenticator{Everybody: auth.Identity{Name: "itself", Role: auth.Service}}}, zap.NewNop())
	runv1.RegisterRunServiceServer(s, runs{get: func(ctx context.Context, _ *runv1.GetRunRequest) (*runv1.GetRunResponse, error) {
		return &runv1.GetRunResponse{Run: &runv1.Run{Owner: auth.Owner(ctx)}}, nil
	}})
	l := NewLocal()
	s.Start(l)
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { conn.Close(); s.Stop(); <-s.Done() }()
	if got := ask(t, t.Context(), conn); got != "itself" {
		t.Errorf("it is %q", got)
	}
	if got := ask(t, auth.With(t.Context(), auth.Identity{Name: "bob", Role: auth.Client}), conn); got != "bob" {
		t.Errorf("for bob it is %q", got)
	}
}

// eventually asks until the answer has the prefix: files are looked at once a second.
func eventually(t *testing.T, ask func() string, prefix string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = ask(); strings.HasPrefix(got, prefix) {
			return
		}
	}
	t.Fatalf("still %q, want %q", got, prefix)
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	alice := Credentials{CA: g.ca.file, TokenFile: g.tokens["alice"]}
	open := g.dial(t, alice)
	if got := ask(t, t.Context(), open); got != "client alice" {
		t.Fatal(got)
	}
	// A token that is taken back is refused on connections that are open, too.
	text, err := os.ReadFile(g.directory)
	if err != nil {
		t.Fatal(err)
	}
	var without []string
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "alice:") {
			without = append(without, line)
		}
	}
	writeFile(t, g.directory, strings.Join(without, "\n"))
	eventually(t, func() string { return ask(t, t.Context(), open) }, "UNAUTHENTICATED: the token is not known")
	// A file that cannot be used changes nothing, and says so with its lines.
	writeFile(t, g.directory, string(text)+"nonsense\n")
	eventually(t, func() string {
		for _, line := range g.log.FilterMessageSnippet("file of identities").All() {
			return line.ContextMap()["error"].(string)
		}
		return ask(t, t.Context(), open)[:0]
	}, g.directory+":")
	if got := ask(t, t.Context(), open); !strings.HasPrefix(got, "UNAUTHENTICATED") {
		t.Errorf("with a file that cannot be used alice is %q", got)
	}
	writeFile(t, g.directory, string(text))
	eventually(t, func() string { return ask(t, t.Context(), open) }, "client alice")
	// A new token in the client's file is used for the next call.
	token, line, err := auth.NewToken(auth.Identity{Name: "alice2", Role: auth.Client})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, g.directory, string(text)+line+"\n")
	writeFile(t, g.tokens["alice"], token)
	eventually(t, func() string { return ask(t, t.Context(), open) }, "client alice2")
	// A new certificate, of another authority: connections that are open go on, new ones need the new authority.
	next := newAuthority(t, "next-ca")
	next.issue(t, g.dir, "server", nil)
	eventually(t, func() string {
		conn, err := Credentials{CA: next.file, TokenFile: g.tokens["alice"]}.Dial(g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return ask(t, t.Context(), conn)
	}, "client alice2")
	if got := ask(t, t.Context(), open); got != "client alice2" {
		t.Errorf("the connection that was open: %q", got)
	}
	if got := ask(t, t.Context(), g.dial(t, alice)); !strings.HasPrefix(got, "UNAVAILABLE: ") {
		t.Errorf("a new connection that trusts the old authority: %q", got)
	}
}

func TestTokensAreNotSentInPlainText(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, "dreamood_secret")
	for target, want := range map[string]bool{"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "10.0.0.1:1": false, "embedder:7460": false, "localhost.example.org:1": false} {
		conn, err := Credentials{TokenFile: file}.Dial(target)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != want || err != nil && (!strings.Contains(err.Error(), "--insecure-tokens") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("a token to %s in plain text: %v", target, err)
		}
		conn, err = Credentials{TokenFile: file, InsecureTokens: true}.Dial(target)
		if err != nil {
			t.Errorf("where it is allowed: %v", err)
			continue
		}
		conn.Close()
	}
	writeFile(t, file, "two\nlines with dreamood_secret")
	if _, err := (Credentials{TokenFile: file}).Dial("localhost:1"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a token file of two lines: %v", err)
	}
	if _, err := (Credentials{TokenFile: file + "x"}).Dial("localhost:1"); err == nil {
		t.Error("a token file that is not there")
	}
	if _, err := (Credentials{Cert: file}).Dial("localhost:1"); err == nil || !strings.Contains(err.Error(), "--tls-key") {
		t.Errorf("a certificate without its key: %v", err)
	}
}

// TestRefusedBeforeTheRequestIsRead: a large message of nobody is not taken in.
func TestRefusedBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	_, err := runv1.NewRunServiceClient(g.dial(t, Credentials{CA: g.ca.file})).GetRun(t.Context(), &runv1.GetRunRequest{Name: strings.Repeat("x", MaxMessage/2)})
	if fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("%v", err)
	}
	if st, _ := status.FromError(ToStatus(err)); st.Code() != codes.Unauthenticated {
		t.Errorf("code %v", st.Code())
	}
}
