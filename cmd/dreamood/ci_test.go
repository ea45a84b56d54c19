package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestCIExamplesParse reads every command line of deploy/ci back: none may name a command, a flag or a condition that is
// not there. make ci-examples checks their syntax as workflows.
func TestCIExamplesParse(t *testing.T) {
	placeholders := regexp.MustCompile(`\$\{\{[^}]*\}\}|\$[A-Z_]+`)
	lines := 0
	for _, file := range []string{"../../deploy/ci/github-actions.yml", "../../deploy/ci/gitlab-ci.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, script := range scalars(&doc) {
			script = strings.ReplaceAll(script, "\\\n", " ")
			for _, line := range strings.Split(script, "\n") {
				line, ok := strings.CutPrefix(strings.TrimSpace(line), "./dreamood ")
				if !ok {
					continue
				}
				lines++
				words := word.FindAllString(placeholders.ReplaceAllString(line, "x"), -1)
				for i := range words {
					words[i] = strings.Trim(words[i], `"'`)
				}
				if _, err := parser(t).Parse(words); err != nil {
					t.Errorf("%s: %q: %v", file, line, err)
				}
			}
		}
	}
	if lines != 4 {
		t.Errorf("%d command lines were found, want 4", lines)
	}
}

// scalars are all texts of a document.
func scalars(n *yaml.Node) []string {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	var out []string
	for _, c := range n.Content {
		out = append(out, scalars(c)...)
	}
	return out
}
