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
	return write(w, "", nil, newView(clean(p)))
}

// write fills a template that may use those of the page; "" is the page itself.
func write(w io.Writer, text string, funcs template.FuncMap, view any) error {
	t, err := template.New("report").Funcs(funcs).Parse(pageTemplate)
	if err == nil && text != "" {
		t, err = t.New("own").Parse(text)
	}
	if err != nil {
		return fmt.Errorf("parse the report's template: %w", err)
	}
	out := bufio.NewWriter(w)
	if err := t.Execute(out, view); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
