package diffusion

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxPromptBytes   = 16 << 10 // a longer prompt would be cut to far fewer tokens
	maxTokenizerFile = 64 << 20
	maxTextLength    = 4096 // tokens
	clipTextLength   = 77   // where the configuration names no length
)

// Tokenizer is CLIP's byte-level byte-pair encoding (Radford et al. 2021,
// after Sennrich et al. 2016) with any vocabulary. It gives the ids of
// transformers' CLIPTokenizer, for the characters of unicode.Version (newer
// letters count as signs). It is safe for concurrent use.
type Tokenizer struct {
	vocabulary    map[string]int64
	ranks         map[pair]int
	added         []addedToken
	bos, eos, pad int64
	unknown       int64
	length        int
}

type pair struct{ left, right string }

// addedToken is a token that is found in the text as it stands, before the
// byte-pair encoding.
type addedToken struct {
	content    string
	id         int64
	normalized bool // looked for in the normalised text
}

// OpenTokenizer reads vocab.json, merges.txt, tokenizer_config.json and
// special_tokens_map.json (optional) in dir. Encode gives length ids; 0 means
// the model_max_length of the configuration, else 77.
func OpenTokenizer(dir string, length int) (*Tokenizer, error) {
	t := &Tokenizer{length: length}
	config, special, err := readTokenizerConfig(dir)
	if err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(dir, "vocab.json"), maxTokenizerFile, &t.vocabulary); err != nil {
		return nil, err
	}
	for token, id := range t.vocabulary {
		if id < 0 || id > math.MaxInt32 {
			return nil, fmt.Errorf("%s: token %q has the id %d", filepath.Join(dir, "vocab.json"), token, id)
		}
	}
	if t.ranks, err = readMerges(filepath.Join(dir, "merges.txt"), t.vocabulary); err != nil {
		return nil, err
	}
	if t.length == 0 {
		t.length = clipTextLength
		if n := config.ModelMaxLength; n >= 2 && n <= maxTextLength {
			t.length = int(n)
		}
	}
	if t.length < 2 || t.length > maxTextLength {
		return nil, fmt.Errorf("%s: %d tokens per prompt, want 2 to %d", dir, t.length, maxTextLength)
	}
	if err := t.addTokens(config, special); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return t, nil
}

// readMerges reads the pairs of merges.txt in the order of their rank. Pairs
// whose result is not in the vocabulary are an error.
func readMerges(path string, vocabulary map[string]int64) (map[pair]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ranks := map[pair]int{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#version") || strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, fmt.Errorf("%s:%d: want two parts of a token, got %q", path, n, line)
		}
		if _, ok := vocabulary[left+right]; !ok {
			return nil, fmt.Errorf("%s:%d: token %q is not in the vocabulary", path, n, left+right)
		}
		if _, again := ranks[pair{left, right}]; !again {
			ranks[pair{left, right}] = len(ranks)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ranks, nil
}

// Length returns the number of ids that Encode gives.
func (t *Tokenizer) Length() int { return t.length }

// Encode returns the ids of a prompt: start, tokens cut to the length, end,
// padding.
func (t *Tokenizer) Encode(prompt string) ([]int64, error) {
	tokens, err := t.Tokens(prompt)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, t.length)
	ids = append(ids, t.bos)
	ids = append(ids, tokens[:min(len(tokens), t.length-2)]...)
	ids = append(ids, t.eos)
	for len(ids) < t.length {
		ids = append(ids, t.pad)
	}
	return ids, nil
}

// Tokens returns the ids of a text, neither cut nor padded and without start
// and end.
func (t *Tokenizer) Tokens(text string) ([]int64, error) {
	if len(text) > maxPromptBytes {
		return nil, fmt.Errorf("prompt of %d bytes, want at most %d", len(text), maxPromptBytes)
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	var ids []int64
	t.split(text, false, func(raw string) {
		t.split(normalise(raw), true, func(part string) {
			for rest := part; rest != ""; {
				var word string
				if word, rest = nextWord(rest); word != "" {
					ids = t.encodeWord(ids, word)
				}
			}
		}, func(id int64) { ids = append(ids, id) })
	}, func(id int64) { ids = append(ids, id) })
	return ids, nil
}

// split calls token for the added tokens in text, leftmost and longest first,
// and part for what lies between them.
func (t *Tokenizer) split(text string, normalized bool, part func(string), token func(int64)) {
	from := 0
	for i := 0; i < len(text); {
		var best *addedToken
		for k := range t.added {
			a := &t.added[k]
			if a.normalized == normalized && strings.HasPrefix(text[i:], a.content) && (best == nil || len(a.content) > len(best.content)) {
				best = a
			}
		}
		if best == nil {
			_, size := utf8.DecodeRuneInString(text[i:])
			i += size
			continue
		}
		part(text[from:i])
		token(best.id)
		i += len(best.content)
		from = i
	}
	part(text[from:])
}

// normalise composes (NFC) and lower-cases a text. White space stays as it
// is: it separates words, however much there is of it.
func normalise(text string) string {
	var b strings.Builder
	for _, r := range norm.NFC.String(text) {
		if r == 'İ' { // the only rune whose lower case is two
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// nextWord cuts the next word off a text: a contraction, a run of letters, one
// number, or a run of other signs. It is empty where white space comes first.
// It is the regular expression of CLIP:
//
//	's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
func nextWord(text string) (word, rest string) {
	for _, c := range contractions {
		if strings.HasPrefix(text, c) {
			return c, text[len(c):]
		}
	}
	kind := signs
	end := len(text)
	for i, r := range text {
		switch now := kindOf(r); {
		case i == 0 && (now == space || now == number):
			size := utf8.RuneLen(r)
			if now == space {
				return "", text[size:]
			}
			return text[:size], text[size:]
		case i == 0:
			kind = now
			continue
		case now == kind:
			continue
		}
		end = i
		break
	}
	return text[:end], text[end:]
}

const (
	space = iota
	letters
	number
	signs
)

func kindOf(r rune) int {
	switch {
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r):
		return letters
	case unicode.IsNumber(r):
		return number
	}
	return signs
}

// encodeWord appends the ids of a word: its bytes, of which the neighbours of
// the lowest rank, leftmost first, are merged until no pair has a rank.
func (t *Tokenizer) encodeWord(ids []int64, word string) []int64 {
	const none = math.MaxInt
	parts := make([]string, len(word))
	for i := range len(word) {
		parts[i] = byteRunes[word[i]]
	}
	parts[len(parts)-1] += "</w>"
	rank := func(i int) int {
		if i+1 < len(parts) {
			if r, ok := t.ranks[pair{parts[i], parts[i+1]}]; ok {
				return r
			}
		}
		return none
	}
	ranks := make([]int, len(parts))
	for i := range ranks {
		ranks[i] = rank(i)
	}
	for {
		best := 0
		for i, r := range ranks {
			if r < ranks[best] {
				best = i
			}
		}
		if ranks[best] == none {
			break
		}
		parts[best] += parts[best+1]
		parts = slices.Delete(parts, best+1, best+2)
		ranks = slices.Delete(ranks, best+1, best+2)
		ranks[best] = rank(best)
		if best > 0 {
			ranks[best-1] = rank(best - 1)
		}
	}
	for _, p := range parts {
		if id, ok := t.vocabulary[p]; ok {
			ids = append(ids, id)
		} else {
			ids = append(ids, t.unknown)
		}
	}
	return ids
}

// byteRunes names every byte by a printable rune, as GPT-2 does: printable
// bytes by themselves, the others by the runes from 256 on.
var byteRunes = func() (table [256]string) {
	next := rune(256)
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			table[b] = string(rune(b))
			continue
		}
		table[b] = string(next)
		next++
	}
	return table
}()

// readJSON reads a JSON file of at most limit bytes.
func readJSON(path string, limit int64, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	if !stat.Mode().IsRegular() || stat.Size() > limit {
		return fmt.Errorf("%s: want a regular file of at most %d bytes", path, limit)
	}
	if err := json.NewDecoder(bufio.NewReader(f)).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

var errNoToken = errors.New("not in the vocabulary")

const maxConfigFile = 1 << 20
