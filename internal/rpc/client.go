package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dreamood/dreamood/internal/reload"
)

// serviceConfig spreads calls over all addresses of a name and retries those that never reached a server.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"waitForReady":false,
"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"2s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

// Credentials say how a client reaches servers, and who it is. The zero value is plain text and nobody.
type Credentials struct {
	TLS       bool   // encrypt, and trust the authorities of the system
	CA        string // PEM file of the authorities to trust instead; with it TLS is on
	Cert, Key string // PEM files of the certificate that the client shows; with them TLS is on
	TokenFile string // file of the token that the client shows
	// InsecureTokens sends the token in plain text, beyond this machine too.
	InsecureTokens bool
	Log            *zap.Logger // is told when files change and cannot be used; default: nothing
}

func (c Credentials) tls() bool { return c.TLS || c.CA != "" || c.Cert != "" }

// Validate reports every problem at once, with the flag that mends it.
func (c Credentials) Validate() error {
	var errs []error
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key go together: a certificate and its private key"))
	}
	return errors.Join(errs...)
}

// Dial makes a connection to host:port in plain text, as nobody; see Credentials.Dial.
func Dial(target string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return Credentials{}.Dial(target, more...)
}

// Dial makes a connection to host:port; it connects at the first call. Files are read at once, and again when they
// change: for the connections, and with the token for the calls, that come then.
func (c Credentials) Dial(target string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := c.dial(target, more)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}

func (c Credentials) dial(target string, more []grpc.DialOption) (*grpc.ClientConn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	transport := insecure.NewCredentials()
	if c.tls() {
		var err error
		if transport, err = c.transport(c.Log); err != nil {
			return nil, err
		}
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if c.TokenFile != "" {
		if !c.tls() && !c.InsecureTokens && !Loopback(target) {
			return nil, errors.New("a token over plain text could be read on the way; encrypt with --tls-ca (or --tls), or allow it with --insecure-tokens on a network that you trust")
		}
		token, err := openToken(c.TokenFile, c.Log)
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithPerRPCCredentials(token))
	}
	return grpc.NewClient(target, append(options(opts...), more...)...)
}

// Loopback reports whether only this machine reaches host:port.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// bearer shows a token with every call. Dial has decided whether it may be sent.
type bearer struct{ token *reload.Value[string] }

func openToken(file string, log *zap.Logger) (bearer, error) {
	v, err := reload.New([]string{file}, func(contents [][]byte) (string, error) {
		token := strings.TrimSpace(string(contents[0]))
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("token file %s: want one line, the token that `dreamood token new` printed first", file)
		}
		return token, nil
	}, func(err error) {
		log.Error("the token file has changed and cannot be used; the old token stays", zap.Error(err))
	})
	return bearer{v}, err
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token.Get()}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }

// Local is a listener inside the process with its connection, so that roles in one process call each other
// exactly as over a network.
type Local struct{ *bufconn.Listener }

// NewLocal makes the listener.
func NewLocal() Local { return Local{bufconn.Listen(1 << 20)} }

// Dial connects to the listener.
func (l Local) Dial(more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///local", append(options(
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })), more...)...)
}

func options(more ...grpc.DialOption) []grpc.DialOption {
	return append([]grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return FromStatus(invoke(carryCall(forward(ctx)), method, req, reply, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(carryCall(forward(ctx)), desc, cc, method, opts...)
			if err != nil {
				return nil, FromStatus(err)
			}
			return clientStream{s}, nil
		}),
	}, more...)
}

// clientStream turns what a stream returns into faults (io.EOF stays io.EOF).
type clientStream struct{ grpc.ClientStream }

func (s clientStream) SendMsg(m any) error { return FromStatus(s.ClientStream.SendMsg(m)) }
func (s clientStream) RecvMsg(m any) error { return FromStatus(s.ClientStream.RecvMsg(m)) }
