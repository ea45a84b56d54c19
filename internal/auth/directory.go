package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A line of a file of identities is `name:role:what`, where what is the SHA-256 of a token in hexadecimal, or the word
// cert: a client certificate of that name. Empty lines and lines that begin with # say nothing.
const certificate = "cert"

// Directory knows the identities of a file. A token has 256 random bits, so one fast hash protects it: there is nothing
// to guess.
type Directory struct {
	tokens []hashed
	certs  map[string]Role
}

type hashed struct {
	sum [sha256.Size]byte
	who Identity
}

// ParseDirectory reads a file of identities, and reports every bad line at once, by its number and without its token.
func ParseDirectory(file string, text []byte) (*Directory, error) {
	d := &Directory{certs: map[string]Role{}}
	roles := map[string]Role{}
	taken := map[[sha256.Size]byte]int{}
	var problems []error
	for n, line := range strings.Split(string(bytes.TrimPrefix(text, []byte("\ufeff"))), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		bad := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("%s:%d: "+format, append([]any{file, n + 1}, args...)...))
		}
		who, what, err := parseLine(line)
		if err != nil {
			bad("%w", err)
			continue
		}
		if role, known := roles[who.Name]; known && role != who.Role {
			bad("%s is %s here and %s in an earlier line; give each role a name of its own", who.Name, who.Role, role)
			continue
		}
		roles[who.Name] = who.Role
		if what == certificate {
			d.certs[who.Name] = who.Role
			continue
		}
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(what)); err != nil || n != len(sum) {
			bad("the third part is neither %q nor a SHA-256 in 64 hexadecimal digits; `dreamood token new` makes a line", certificate)
			continue
		}
		if before := taken[sum]; before != 0 {
			bad("the same token as in line %d", before)
			continue
		}
		taken[sum] = n + 1
		d.tokens = append(d.tokens, hashed{sum, who})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(d.tokens)+len(d.certs) == 0 {
		return nil, fmt.Errorf("%s: names nobody; `dreamood token new NAME --role admin` makes a first line", file)
	}
	return d, nil
}

// parseLine takes a line apart from its end, as names may have colons.
func parseLine(line string) (Identity, string, error) {
	if len(line) > 512 {
		return Identity{}, "", fmt.Errorf("%d bytes; want name:role:sha256", len(line))
	}
	last := strings.LastIndexByte(line, ':')
	middle := strings.LastIndexByte(line[:max(0, last)], ':')
	if last < 0 || middle < 0 {
		return Identity{}, "", errors.New("want name:role:sha256")
	}
	who := Identity{Name: line[:middle], Role: Role(line[middle+1 : last])}
	what := line[last+1:]
	if len(what) != 2*sha256.Size && what != certificate {
		what = "" // perhaps a token by mistake: it goes into no message
	}
	return who, what, who.Check()
}

// Token finds who has a token. It takes the same time for every token that it does not know.
func (d *Directory) Token(token string) (Identity, bool) {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range d.tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], d.tokens[i].sum[:]), i, found)
	}
	if found < 0 {
		return Identity{}, false
	}
	return d.tokens[found].who, true
}

// Certificate is the role that the file gives to certificates of a name.
func (d *Directory) Certificate(name string) (Role, bool) {
	if d == nil {
		return "", false
	}
	role, ok := d.certs[name]
	return role, ok
}

// prefix marks a token, so that scanners for secrets find one that went astray.
const prefix = "dreamood_"

// NewToken makes a token for an identity and the line that lets it in.
func NewToken(who Identity) (token, line string, err error) {
	if err := who.Check(); err != nil {
		return "", "", err
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", "", fmt.Errorf("make a token: %w", err)
	}
	token = prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(token))
	return token, fmt.Sprintf("%s:%s:%s", who.Name, who.Role, hex.EncodeToString(sum[:])), nil
}
