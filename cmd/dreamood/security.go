package main

import (
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/rpc"
)

// SecurityFlags say how the program reaches servers and who it is. There is no flag for the token itself: every user of
// a machine sees the command lines of all.
type SecurityFlags struct {
	TLS            bool   `name:"tls" env:"DREAMOOD_TLS" help:"Encrypt, and trust the authorities of this system."`
	CA             string `name:"tls-ca" type:"path" env:"DREAMOOD_TLS_CA" placeholder:"FILE" help:"Encrypt, and trust the authorities in this PEM file."`
	Cert           string `name:"tls-cert" type:"path" env:"DREAMOOD_TLS_CERT" placeholder:"FILE" help:"Certificate of this program in PEM form: a client shows it; serve encrypts with it and shows it to its peers, too."`
	Key            string `name:"tls-key" type:"path" env:"DREAMOOD_TLS_KEY" placeholder:"FILE" help:"Private key of --tls-cert."`
	TokenFile      string `name:"token-file" type:"path" env:"DREAMOOD_TOKEN_FILE" placeholder:"FILE" help:"File with the token that says who this is, for servers that ask."`
	InsecureTokens bool   `name:"insecure-tokens" env:"DREAMOOD_INSECURE_TOKENS" help:"Send and take tokens in plain text beyond this machine, where whoever listens can read them."`
}

// credentials are the flags as a client uses them.
func (f SecurityFlags) credentials(log *zap.Logger) rpc.Credentials {
	return rpc.Credentials{
		TLS: f.TLS, CA: f.CA, Cert: f.Cert, Key: f.Key, TokenFile: f.TokenFile, InsecureTokens: f.InsecureTokens, Log: log,
	}
}
