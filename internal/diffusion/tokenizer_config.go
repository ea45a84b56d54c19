package diffusion

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
)

const maxAddedTokens = 1 << 14 // every position of a prompt is compared with each

// tokenizerConfig is the part of tokenizer_config.json that changes the ids.
type tokenizerConfig struct {
	specialTokens
	ModelMaxLength     float64                 `json:"model_max_length"` // 1e30 where there is no limit
	AddedTokensDecoder map[string]specialToken `json:"added_tokens_decoder"`
}

// specialTokens stands in both configuration files.
type specialTokens struct {
	BOS *specialToken `json:"bos_token"`
	EOS *specialToken `json:"eos_token"`
	Pad *specialToken `json:"pad_token"`
	Unk *specialToken `json:"unk_token"`
}

// specialToken is written as a string or as an object.
type specialToken struct {
	Content    string `json:"content"`
	Normalized bool   `json:"normalized"`
}

func (s *specialToken) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &s.Content)
	}
	type plain specialToken
	return json.Unmarshal(data, (*plain)(s))
}

// readTokenizerConfig reads both files as transformers does: the map of
// special tokens counts, and wins, only where the configuration has no
// added_tokens_decoder.
func readTokenizerConfig(dir string) (config tokenizerConfig, special specialTokens, err error) {
	start, end := &specialToken{Content: "<|startoftext|>"}, &specialToken{Content: "<|endoftext|>"}
	special = specialTokens{BOS: start, EOS: end, Pad: end, Unk: end}
	path := filepath.Join(dir, "tokenizer_config.json")
	if err := readJSON(path, maxTokenizerFile, &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return config, special, err
	}
	special.override(config.specialTokens)
	if len(config.AddedTokensDecoder) > 0 {
		return config, special, nil
	}
	var legacy specialTokens
	path = filepath.Join(dir, "special_tokens_map.json")
	if err := readJSON(path, maxTokenizerFile, &legacy); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return config, special, err
	}
	special.override(legacy)
	return config, special, nil
}

func (s *specialTokens) override(by specialTokens) {
	for _, f := range []struct{ to, from **specialToken }{{&s.BOS, &by.BOS}, {&s.EOS, &by.EOS}, {&s.Pad, &by.Pad}, {&s.Unk, &by.Unk}} {
		if *f.from != nil && (*f.from).Content != "" {
			*f.to = *f.from
		}
	}
}

// addTokens sets the special tokens, and collects those that are found in the
// text as they stand.
func (t *Tokenizer) addTokens(config tokenizerConfig, special specialTokens) error {
	if n := len(config.AddedTokensDecoder); n > maxAddedTokens {
		return fmt.Errorf("tokenizer_config.json: %d added tokens, want at most %d", n, maxAddedTokens)
	}
	known := map[string]addedToken{}
	for _, key := range slices.Sorted(maps.Keys(config.AddedTokensDecoder)) {
		token := config.AddedTokensDecoder[key]
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || token.Content == "" {
			return fmt.Errorf("tokenizer_config.json: added token %q has the id %q", token.Content, key)
		}
		known[token.Content] = addedToken{content: token.Content, id: id, normalized: token.Normalized}
	}
	for _, s := range []struct {
		name string
		*specialToken
		id *int64
	}{{"bos_token", special.BOS, &t.bos}, {"eos_token", special.EOS, &t.eos}, {"pad_token", special.Pad, &t.pad}, {"unk_token", special.Unk, &t.unknown}} {
		token, ok := known[s.Content]
		if !ok {
			id, inVocabulary := t.vocabulary[s.Content]
			if !inVocabulary {
				return fmt.Errorf("%s %q: %w", s.name, s.Content, errNoToken)
			}
			token = addedToken{content: s.Content, id: id, normalized: s.Normalized}
			known[s.Content] = token
		}
		*s.id = token.id
	}
	for _, token := range known {
		if token.normalized {
			token.content = normalise(token.content)
		}
		t.added = append(t.added, token)
	}
	slices.SortFunc(t.added, func(a, b addedToken) int { return int(a.id - b.id) })
	return nil
}
