package runs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"
)

// digits of identifiers: no i, l, o, u, and in the order of their bytes.
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

var idPattern = regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{20}$`)

// newID makes an identifier of 10 digits of time (milliseconds) and 10 random ones (50 bits), which sorts by time.
func newID(now time.Time) string {
	var id [20]byte
	ms := uint64(now.UnixMilli())
	for i := 9; i >= 0; i-- {
		id[i] = digits[ms&31]
		ms >>= 5
	}
	rand.Read(id[10:]) // never fails, by its contract
	for i := 10; i < len(id); i++ {
		id[i] = digits[id[i]&31]
	}
	return string(id[:])
}

// timeOf is when an identifier was made.
func timeOf(id string) time.Time {
	var ms int64
	for i := 0; i < 10 && i < len(id); i++ {
		ms = ms<<5 | int64(max(strings.IndexByte(digits, id[i]), 0))
	}
	return time.UnixMilli(ms)
}

// hashOf is a SHA-256 over the SHA-256 of each part, in hexadecimal: different lists of parts differ.
func hashOf(parts ...string) string {
	digest := sha256.New()
	for _, part := range parts {
		sum := sha256.Sum256([]byte(part))
		digest.Write(sum[:])
	}
	return hex.EncodeToString(digest.Sum(nil))
}
