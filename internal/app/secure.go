package app

import (
	"github.com/dreamood/dreamood/internal/auth"
	"github.com/dreamood/dreamood/internal/rpc"
)

// itself calls inside the process: nobody else reaches that listener. For whom it calls, it says.
var itself = auth.Identity{Name: "itself", Role: auth.Service}

// secure reads the files by which the server encrypts and knows who calls.
func (a *App) secure() error {
	var err error
	if c := a.cfg.Credentials; c.Cert != "" {
		if a.tls, err = (rpc.ServerTLS{Cert: c.Cert, Key: c.Key, ClientCA: a.cfg.ClientCA}).Credentials(a.log); err != nil {
			return err
		}
	}
	if !a.cfg.Authenticates() {
		return nil
	}
	a.auth = &rpc.Authenticator{}
	if a.cfg.Tokens != "" {
		a.auth.Directory, err = rpc.OpenDirectory(a.cfg.Tokens, a.log)
	}
	return err
}
