package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"

	"github.com/dreamood/dreamood/internal/reload"
)

// ServerTLS are the PEM files of a server. They are read again when they change, for the connections that come then.
type ServerTLS struct {
	Cert, Key string // certificate, with its chain, and private key
	ClientCA  string // authorities of client certificates; "" takes none. A client may come without one
}

// Credentials reads the files. log is told when files that have changed cannot be used; the old ones stay in use.
func (f ServerTLS) Credentials(log *zap.Logger) (credentials.TransportCredentials, error) {
	paths := []string{f.Cert, f.Key}
	if f.ClientCA != "" {
		paths = append(paths, f.ClientCA)
	}
	return watched(paths, log, func(contents [][]byte) (*tls.Config, error) {
		cert, err := keyPair(f.Cert, f.Key, contents[0], contents[1])
		if err != nil {
			return nil, err
		}
		cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
		if f.ClientCA != "" {
			// A certificate that is shown must be good. Who shows none may have a token, or ask for health only.
			cfg.ClientAuth = tls.VerifyClientCertIfGiven
			if cfg.ClientCAs, err = pool(f.ClientCA, contents[2]); err != nil {
				return nil, err
			}
		}
		return cfg, nil
	})
}

// transport are the client's side of it: plain text where nothing asks for TLS.
func (c Credentials) transport(log *zap.Logger) (credentials.TransportCredentials, error) {
	var paths []string
	if c.CA != "" {
		paths = append(paths, c.CA)
	}
	if c.Cert != "" {
		paths = append(paths, c.Cert, c.Key)
	}
	return watched(paths, log, func(contents [][]byte) (*tls.Config, error) {
		cfg := &tls.Config{MinVersion: tls.VersionTLS13}
		if c.CA != "" {
			var err error
			if cfg.RootCAs, err = pool(c.CA, contents[0]); err != nil {
				return nil, err
			}
			contents = contents[1:]
		}
		if c.Cert != "" {
			cert, err := keyPair(c.Cert, c.Key, contents[0], contents[1])
			if err != nil {
				return nil, err
			}
			cfg.Certificates = []tls.Certificate{cert}
		}
		return cfg, nil
	})
}

// keyPair refuses, beside what does not fit together, a certificate whose time is over: every connection would fail.
func keyPair(certFile, keyFile string, cert, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return pair, fmt.Errorf("certificate %s expired on %s; issue a new one", certFile, end.UTC().Format(time.DateTime))
	}
	return pair, nil
}

func pool(file string, pem []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authorities %s: no certificate in PEM form", file)
	}
	return p, nil
}

// fresh are TLS credentials made of files, as these are when a connection is made.
type fresh struct {
	current *reload.Value[credentials.TransportCredentials]
}

func watched(paths []string, log *zap.Logger, build func([][]byte) (*tls.Config, error)) (credentials.TransportCredentials, error) {
	v, err := reload.New(paths, func(contents [][]byte) (credentials.TransportCredentials, error) {
		cfg, err := build(contents)
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(cfg), nil
	}, func(err error) {
		log.Error("TLS files have changed and cannot be used; the old ones stay", zap.Error(err))
	})
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return fresh{v}, nil
}

func (f fresh) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return f.current.Get().ClientHandshake(ctx, authority, conn)
}

func (f fresh) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return f.current.Get().ServerHandshake(conn)
}

func (f fresh) Info() credentials.ProtocolInfo { return f.current.Get().Info() }

func (f fresh) Clone() credentials.TransportCredentials { return f }

// OverrideServerName is of the interface; grpc.WithAuthority does it.
func (f fresh) OverrideServerName(string) error {
	return errors.New("the name of a server is that of its address")
}
