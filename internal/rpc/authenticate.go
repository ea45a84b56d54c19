package rpc

import (
	"context"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/reload"
)

// ownerHeader says for whom a process of the mesh calls. It counts from identities with the role service alone, and what
// is done for an owner is done with the rights of a client: a process cannot make itself an admin.
const ownerHeader = "dreamood-owner"

// scheme of the URI in a client certificate that says role and name: dreamood://client/alice.
const scheme = "dreamood"

// Authenticator finds out who calls. Every call of a server that has one needs an identity, health excepted.
type Authenticator struct {
	// Directory knows tokens and certificates; nil knows none.
	Directory *reload.Value[*auth.Directory]
	// Everybody, where it has a name, is who calls without a token or certificate: for a listener inside the process.
	Everybody auth.Identity
}

// OpenDirectory reads a file of identities; log is told when it has changed and cannot be used.
func OpenDirectory(file string, log *zap.Logger) (*reload.Value[*auth.Directory], error) {
	return reload.New([]string{file}, func(contents [][]byte) (*auth.Directory, error) {
		return auth.ParseDirectory(file, contents[0])
	}, func(err error) {
		log.Error("the file of identities has changed and cannot be used; the old one stays", zap.Error(err))
	})
}

// tap lets a call in, with its identity in the context, or refuses it before anything of its request is read.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if auth.Open(info.FullMethodName) {
		return ctx, nil
	}
	who, err := s.cfg.Auth.identify(ctx, info.Header)
	if err == nil {
		err = auth.Allow(who, info.FullMethodName)
	}
	if err != nil {
		fields := []zap.Field{zap.String("method", info.FullMethodName), zap.String("code", string(fault.ReasonOf(err))), zap.String("why", err.Error())}
		if p, ok := peer.FromContext(ctx); ok {
			fields = append(fields, zap.String("peer", p.Addr.String()))
		}
		s.log.Info("call refused", fields...)
		return ctx, ToStatus(err)
	}
	return auth.With(ctx, who), nil
}

// identify finds the identity of a call: that of its token, else of its certificate. A process of the mesh that calls
// for somebody is that somebody.
func (a *Authenticator) identify(ctx context.Context, header metadata.MD) (auth.Identity, error) {
	who, err := a.caller(ctx, header)
	if err != nil || who.Role != auth.Service {
		return who, err
	}
	owners := header.Get(ownerHeader)
	if len(owners) == 0 {
		return who, nil
	}
	end := auth.Identity{Name: owners[0], Role: auth.Client}
	if err := end.Check(); err != nil || len(owners) > 1 {
		return who, fault.New(fault.Unauthenticated, "%s calls for the owners %q; want the name of one", who.Name, owners)
	}
	return end, nil
}

func (a *Authenticator) caller(ctx context.Context, header metadata.MD) (auth.Identity, error) {
	var known *auth.Directory
	if a.Directory != nil {
		known = a.Directory.Get()
	}
	if lines := header.Get("authorization"); len(lines) > 0 {
		scheme, token, _ := strings.Cut(lines[0], " ")
		if known != nil && len(lines) == 1 && strings.EqualFold(scheme, "bearer") {
			if who, ok := known.Token(token); ok {
				return who, nil
			}
		}
		return auth.Identity{}, fault.New(fault.Unauthenticated, "the token is not known here; ask an admin of the mesh for a new one")
	}
	name, role, ok := certified(ctx)
	if ok {
		if listed, ok := known.Certificate(name); ok {
			role = listed
		}
		who := auth.Identity{Name: name, Role: role}
		if err := who.Check(); err != nil {
			return auth.Identity{}, fault.New(fault.Unauthenticated, "the client certificate is good, and says no role: %w; give it a URI dreamood://ROLE/NAME, or list it in the server's file of identities as NAME:ROLE:cert", err)
		}
		return who, nil
	}
	if a.Everybody.Name != "" {
		return a.Everybody, nil
	}
	return auth.Identity{}, fault.New(fault.Unauthenticated, "no token, and no client certificate of an authority that this server trusts; show one, with --token-file or --tls-cert and --tls-key")
}

// certified is the name, and the role where there is one, in the client certificate of a connection. TLS has verified
// it. The name is that of a URI dreamood://ROLE/NAME, else the first URI, else the common name.
func certified(ctx context.Context) (name string, role auth.Role, ok bool) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return "", "", false
	}
	info, _ := p.AuthInfo.(credentials.TLSInfo)
	if len(info.State.VerifiedChains) == 0 {
		return "", "", false
	}
	leaf := info.State.VerifiedChains[0][0]
	for _, u := range leaf.URIs {
		if u.Scheme == scheme {
			return strings.TrimPrefix(u.Path, "/"), auth.Role(u.Host), true
		}
	}
	if len(leaf.URIs) > 0 {
		return leaf.URIs[0].String(), "", true
	}
	return leaf.Subject.CommonName, "", true
}

// forward says for whom a process calls another one: for the client whose call it works on.
func forward(ctx context.Context) context.Context {
	who, ok := auth.From(ctx)
	if !ok || who.Role == auth.Service {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, ownerHeader, who.Name)
}
