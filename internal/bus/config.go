package bus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// Config says where the queue is. The zero value with Dir set is an embedded server that only this process can reach.
type Config struct {
	// URL of an outside NATS server with JetStream, for example "nats://nats:4222" (several with commas). Empty
	// means: start the server inside this process.
	URL string
	// Name of this client, as the server's monitoring shows it. Default "dreamood".
	Name string
	// ConnectWait bounds the wait for a first answer of URL. Default 10 s. Later breaks are waited out for ever.
	ConnectWait time.Duration

	// Dir is the folder of the embedded server's JetStream store. Required when URL is empty. One process at a time.
	Dir string
	// Listen opens the embedded server to other processes on "host:port"; port 0 picks a free one (see Bus.URL).
	// Empty means in-process only, without TCP.
	Listen string
	// NoSync leaves it to the operating system when acknowledged messages reach the disk (at most two minutes later).
	// The default, false, syncs each one: hundreds of messages per second instead of tens of thousands, and none is
	// lost at a power failure.
	NoSync bool

	// User and Password, or Token, or CredsFile (a NATS .creds file, URL only) authenticate this client. With Listen
	// set they are also what the embedded server asks of others.
	User, Password, Token, CredsFile string
	// CAFile, CertFile and KeyFile (PEM) are used for TLS: CAFile verifies the other side, CertFile and KeyFile are
	// presented to it. With Listen set they are the embedded server's; a CAFile then demands client certificates.
	CAFile, CertFile, KeyFile string

	// Log receives connection changes and the embedded server's warnings. Default: nothing.
	Log *zap.Logger
}

// withDefaults fills what is not set.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "dreamood"
	}
	if c.ConnectWait == 0 {
		c.ConnectWait = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch {
	case c.URL == "" && c.Dir == "":
		add("set either the URL of a NATS server or the folder of the embedded one")
	case c.URL != "" && c.Listen != "":
		add("listen %s: only the embedded server can listen, but a URL is set (%s)", c.Listen, c.URL)
	}
	if c.Listen != "" {
		if _, _, err := splitListen(c.Listen); err != nil {
			add("listen %q: want host:port: %w", c.Listen, err)
		}
	}
	if c.CredsFile != "" && c.URL == "" {
		add("credentials file %s: only for an outside server; the embedded one takes a user and password or a token", c.CredsFile)
	}
	if (c.User == "") != (c.Password == "") {
		add("user and password go together; one of them is empty")
	}
	if c.Token != "" && c.User != "" {
		add("set a token or a user, not both")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		add("certificate file %q and key file %q go together", c.CertFile, c.KeyFile)
	}
	if c.Listen != "" && c.CAFile != "" && c.CertFile == "" {
		add("CA file %s: the embedded server also needs a certificate and a key to offer TLS", c.CAFile)
	}
	for _, path := range []string{c.CredsFile, c.CAFile, c.CertFile, c.KeyFile} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			add("%w", err)
		}
	}
	if c.ConnectWait < 0 {
		add("connect wait %s: must not be negative", c.ConnectWait)
	}
	return errors.Join(problems...)
}

func splitListen(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, int(number), err
}
