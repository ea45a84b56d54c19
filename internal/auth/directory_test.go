package auth

import (
	"strings"
	"testing"
)

func newToken(t *testing.T, name string, role Role) (token, line string) {
	t.Helper()
	token, line, err := NewToken(Identity{name, role})
	if err != nil {
		t.Fatal(err)
	}
	return token, line
}

func TestDirectoryKnowsItsTokens(t *testing.T) {
	alice, a := newToken(t, "alice", Client)
	second, b := newToken(t, "alice", Client) // two tokens of one name, while one replaces the other
	root, c := newToken(t, "spiffe://mesh/root", Admin)
	if alice == second {
		t.Fatal("a token came twice")
	}
	d, err := ParseDirectory("who", []byte("\ufeff# people\n\n"+a+"\r\n  "+b+"  \n"+c+"\nhttps://x:8443/web:viewer:cert\n"))
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]Identity{alice: {"alice", Client}, second: {"alice", Client}, root: {"spiffe://mesh/root", Admin}} {
		if got, ok := d.Token(token); !ok || got != want {
			t.Errorf("token of %v is one of %v, %v", want, got, ok)
		}
	}
	for _, token := range []string{"", alice[:len(alice)-1], alice + "x", strings.ToLower(alice), a[len("alice:client:"):]} {
		if who, ok := d.Token(token); ok {
			t.Errorf("%q is a token of %v", token, who)
		}
	}
	if role, ok := d.Certificate("https://x:8443/web"); !ok || role != Viewer {
		t.Errorf("role of a certificate: %q, %v", role, ok)
	}
	if _, ok := d.Certificate("alice"); ok {
		t.Error("alice has a certificate by her token")
	}
	if _, ok := (*Directory)(nil).Certificate("alice"); ok {
		t.Error("no file knows a certificate")
	}
}

func TestBadLinesAreNamedByNumberWithoutTheirToken(t *testing.T) {
	token, good := newToken(t, "alice", Client)
	_, other := newToken(t, "alice", Admin)
	text := strings.Join([]string{
		good,                       // 1
		"alice",                    // 2
		"alice:client",             // 3
		"bob:root:" + good[13:],    // 4
		"b ob:client:" + good[13:], // 5
		"bob:client:" + token,      // 6: the token itself, by mistake
		"bob:client:" + good[13:],  // 7: the token of alice
		other,                      // 8: another role
		"# fine",                   // 9
		"carol:client:" + strings.Repeat("g", 64),  // 10
		strings.Repeat("x", 1000) + ":client:cert", // 11
	}, "\n")
	_, err := ParseDirectory("who", []byte(text))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"who:2: want name:role:sha256", "who:3: want", `who:4: role "root"`, `who:5: name "b ob"`, "who:6: the third part",
		"who:7: the same token as in line 1", "who:8: alice is admin here and client", "who:10: the third part", "who:11: 1012 bytes"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("problem %d is not %q in\n%v", i, want, err)
		}
	}
	if len(lines) != 9 || strings.Contains(err.Error(), token) {
		t.Errorf("%d problems, or the token is among them:\n%v", len(lines), err)
	}
	if _, err := ParseDirectory("who", []byte("# nobody\n")); err == nil || !strings.Contains(err.Error(), "token new") {
		t.Errorf("an empty file: %v", err)
	}
	if _, _, err := NewToken(Identity{"a b", Client}); err == nil {
		t.Error("a token for a name that no file can hold")
	}
}

func FuzzParseDirectory(f *testing.F) {
	f.Add("alice:client:" + strings.Repeat("0a", 32))
	f.Add("a:b:cert\n:::\n#")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDirectory("f", []byte(text))
		if (d == nil) == (err == nil) {
			t.Fatalf("%v, %v", d, err)
		}
		if d != nil {
			for _, known := range d.tokens {
				if known.who.Check() != nil {
					t.Fatalf("let in %v", known.who)
				}
			}
		}
	})
}
