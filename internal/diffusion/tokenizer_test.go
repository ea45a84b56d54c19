package diffusion

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenizerMatchesTransformers compares the ids of all recorded prompts
// under several configurations of the tokenizer; they must be equal.
func TestTokenizerMatchesTransformers(t *testing.T) {
	var vectors struct {
		Prompts []string
		Cases   []struct {
			Name    string
			Config  json.RawMessage
			Special map[string]string
			Length  int
			IDs     []string
		}
	}
	readVectors(t, "tokenizer.json", &vectors)
	for _, c := range vectors.Cases {
		dir := t.TempDir()
		for _, f := range []string{"vocab.json", "merges.txt", "special_tokens_map.json"} {
			copyFile(t, filepath.Join("testdata/tiny/tokenizer", f), filepath.Join(dir, f))
		}
		special := filepath.Join(dir, "special_tokens_map.json")
		if c.Special == nil {
			os.Remove(special)
		} else if len(c.Special) > 0 {
			changeJSON(t, special, c.Special)
		}
		if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), c.Config, 0o600); err != nil {
			t.Fatal(err)
		}
		tok, err := OpenTokenizer(dir, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if tok.Length() != c.Length {
			t.Errorf("%s: length %d, want %d", c.Name, tok.Length(), c.Length)
		}
		for i, prompt := range vectors.Prompts {
			ids, err := tok.Encode(prompt)
			got := strings.Trim(fmt.Sprint(ids), "[]")
			if err != nil || got != c.IDs[i] {
				t.Errorf("%s: %q\n got %s\nwant %s", c.Name, prompt, got, c.IDs[i])
			}
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func changeJSON(t *testing.T, path string, changes map[string]string) {
	t.Helper()
	value := map[string]any{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	for k, v := range changes {
		value[k] = v
	}
	if err == nil {
		if data, err = json.Marshal(value); err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostileTokenizer(t *testing.T) {
	for name, c := range map[string]struct{ file, content, want string }{
		"no vocabulary":    {"vocab.json", "", "vocab.json"},
		"not JSON":         {"vocab.json", "{", "vocab.json"},
		"negative id":      {"vocab.json", `{"a": -1}`, `"a" has the id -1`},
		"half a merge":     {"merges.txt", "#version: 0.2\na\n", "merges.txt:2"},
		"unknown merge":    {"merges.txt", "ab cd\n", `"abcd" is not in the vocabulary`},
		"unknown special":  {"tokenizer_config.json", `{"eos_token": "<end>"}`, `eos_token "<end>": not in the vocabulary`},
		"added token's id": {"tokenizer_config.json", `{"added_tokens_decoder": {"x": {"content": "a"}}}`, `added token "a" has the id "x"`},
	} {
		dir := t.TempDir()
		for _, f := range []string{"vocab.json", "merges.txt"} {
			copyFile(t, filepath.Join("testdata/tiny/tokenizer", f), filepath.Join(dir, f))
		}
		path := filepath.Join(dir, c.file)
		if c.content == "" {
			os.Remove(path)
		} else if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokenizer(dir, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	tok, err := OpenTokenizer("testdata/tiny/tokenizer", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode(strings.Repeat("x", maxPromptBytes+1)); err == nil {
		t.Error("a huge prompt was encoded")
	}
	if ids, err := tok.Encode("\xff\xfe dog"); err != nil || len(ids) != tok.Length() {
		t.Errorf("invalid UTF-8: %v, %v", ids, err)
	}
}

func FuzzTokenizer(f *testing.F) {
	tok, err := OpenTokenizer("testdata/tiny/tokenizer", 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a photo of a dog 🐶 it's <|endoftext|>")
	f.Fuzz(func(t *testing.T, prompt string) {
		ids, err := tok.Encode(prompt)
		if len(prompt) <= maxPromptBytes && (err != nil || len(ids) != tok.Length()) {
			t.Errorf("%d ids, %v", len(ids), err)
		}
	})
}
