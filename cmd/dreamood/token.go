package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/dreamood/dreamood/internal/auth"
)

// TokenCmd groups the commands on tokens.
type TokenCmd struct {
	New TokenNewCmd `cmd:"" help:"Make a token, and the line that lets it in."`
}

// TokenNewCmd makes a token.
type TokenNewCmd struct {
	Name string `arg:"" help:"Who it is for: the owner of what it makes."`
	Role string `required:"" enum:"admin,client,viewer,service" help:"What it may do. admin: everything. client: read, start work, steer its own runs. viewer: read. service: a process of the mesh."`
	Out  string `type:"path" placeholder:"FILE" help:"Write the token into this new file, which its user alone can read, and print the line alone."`
}

// Help teaches the command.
func (TokenNewCmd) Help() string {
	return `Prints a token, which is a secret, and a line for the file that the server reads with serve --tokens. The line holds
a hash of the token and is none. A server reads the file again when it changes, so lines may come and go at any time.

    dreamood token new alice --role client --out alice.token
    dreamood runs list --token-file alice.token`
}

// Run makes the token; no server is asked.
func (c *TokenNewCmd) Run(s *Session) error {
	token, line, err := auth.NewToken(auth.Identity{Name: c.Name, Role: auth.Role(c.Role)})
	if err != nil {
		return usage("%w", err)
	}
	if c.Out != "" {
		if err := writeSecret(c.Out, token); err != nil {
			return err
		}
	}
	if s.json() {
		doc := map[string]string{"token": token, "line": line}
		if c.Out != "" {
			doc["token"] = ""
			doc["file"] = c.Out
		}
		return json.NewEncoder(s.Out).Encode(doc)
	}
	if c.Out == "" {
		s.say("%s", token)
	}
	s.say("%s", line)
	if c.Out == "" {
		s.hint("the first line is the token, for a file that only %s can read; the second one is for the server's --tokens", c.Name)
	} else {
		s.hint("the line is for the server's --tokens")
	}
	return nil
}

// writeSecret writes a new file that its user alone can read.
func writeSecret(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w; choose another file, or remove it", err)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}
