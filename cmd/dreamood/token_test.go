package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dreamood/dreamood/internal/auth"
)

func TestTokenNew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alice.token")
	new(fake).typed(t, "token", "new", "alice", "--role", "king").wants(t, exitUsage, "--role")
	new(fake).typed(t, "token", "new", "al ice", "--role", "client").wants(t, exitUsage, "al ice")
	shown := new(fake).typed(t, "token", "new", "alice", "--role", "client")
	shown.wants(t, exitOK, "alice:client:")
	token, line, _ := strings.Cut(strings.TrimSpace(shown.out), "\n")
	d, err := auth.ParseDirectory("x", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if who, ok := d.Token(token); !ok || who != (auth.Identity{Name: "alice", Role: auth.Client}) {
		t.Errorf("the line lets in %v, %v", who, ok)
	}
	hidden := new(fake).typed(t, "token", "new", "alice", "--role", "client", "--out", file)
	hidden.wants(t, exitOK, "alice:client:")
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the token: %v, %v", info.Mode(), err)
	}
	if secret = bytes.TrimSpace(secret); strings.Contains(hidden.out+hidden.errs, string(secret)) {
		t.Error("the token is printed, too")
	}
	if d, err = auth.ParseDirectory("x", []byte(hidden.out)); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Token(string(secret)); !ok {
		t.Error("the line does not let in the token of the file")
	}
	new(fake).typed(t, "token", "new", "alice", "--role", "client", "--out", file).wants(t, exitFailed, "choose another file")
}

func TestFlagsOfSecurity(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"runs", "list", "--server", "10.0.0.1:1", "--token-file", "none"}, &out, &errs, nil)
	if code != exitUsage || !strings.Contains(errs.String(), "--insecure-tokens") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	errs.Reset()
	code = run(t.Context(), []string{"serve", "--listen", "0.0.0.0:0", "--tokens", "none", "--data", t.TempDir(), "--models", "../../models"}, &out, &errs, nil)
	if code != exitUsage || !strings.Contains(errs.String(), "--tokens: on 0.0.0.0:0") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	errs.Reset()
	code = run(t.Context(), []string{"serve", "--client-ca", "none", "--data", t.TempDir(), "--models", "../../models"}, &out, &errs, nil)
	if code != exitUsage || !strings.Contains(errs.String(), "--client-ca: ") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}
