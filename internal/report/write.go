package report

import (
	"bufio"
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html.tmpl
var pageTemplate string

//go:embed page.css
var pageStyle string

// Write writes the page as one HTML document in UTF-8. The same page gives the same bytes. Missing parts and values
// that are not numbers show as "no data"; only w makes it fail.
func Write(w io.Writer, p Page) error {
	t, err := template.New("report").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("parse the report's template: %w", err)
	}
	out := bufio.NewWriter(w)
	if err := t.Execute(out, newView(clean(p))); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
