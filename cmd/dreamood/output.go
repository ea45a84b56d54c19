package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// sink remembers the first error of its writer, so that a full disk behind a redirected result is not a success.
type sink struct {
	w   io.Writer
	err error
}

func (k *sink) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	if err != nil && k.err == nil {
		k.err = fmt.Errorf("write results: %w", err)
	}
	return n, err
}

// json reports whether results go out as JSON.
func (s *Session) json() bool { return s.Output == "json" }

// say prints a line of a result for people. Arguments that come from elsewhere are made printable.
func (s *Session) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", cleaned(args)...) }

// hint prints a line that is not a result: progress, or what to type next. It goes to standard error.
func (s *Session) hint(format string, args ...any) {
	if !s.Quiet {
		s.complain(format, args...)
	}
}

// complain prints a line to standard error, quiet or not.
func (s *Session) complain(format string, args ...any) {
	fmt.Fprintf(s.Err, "dreamood: "+format+"\n", cleaned(args)...)
}

// object prints a message as one line of JSON.
func (s *Session) object(m proto.Message) error {
	line, err := jsonLine(m)
	if err == nil {
		_, err = s.Out.Write(line)
	}
	return err
}

// value prints a value as one line of JSON.
func (s *Session) value(v any) error { return json.NewEncoder(s.Out).Encode(v) }

// objectOf prints a message as one line of JSON with the file that it is about in front.
func (s *Session) objectOf(file string, m proto.Message) error {
	line, err := jsonLine(m)
	if err != nil {
		return err
	}
	name, err := json.Marshal(file)
	if err != nil {
		return err
	}
	rest := bytes.TrimPrefix(line, []byte("{"))
	if len(bytes.TrimSpace(rest)) > 1 {
		name = append(name, ',')
	}
	_, err = fmt.Fprintf(s.Out, `{"file":%s%s`, name, rest)
	return err
}

// jsonLine is m as one line of compact protojson with every scalar field, newline included. Its bytes depend on m
// alone (protojson's own spacing varies between builds).
func jsonLine(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}

// table collects rows and prints them in columns.
type table struct{ rows [][]string }

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cleaned(cells) {
		row[i] = strings.ReplaceAll(fmt.Sprint(c), "\n", " ")
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush()
}

// clean makes text from elsewhere safe to print: control characters, which could drive the terminal, become spaces.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

func cleaned(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case string:
			out[i] = clean(a)
		case error:
			out[i] = clean(a.Error())
		default:
			out[i] = a
		}
	}
	return out
}

// percent prints a share of 0 to 1.
func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// span prints a duration for people: 4.2 s, 46 s, 3 min 12 s, 1 h 4 min.
func span(d time.Duration) string {
	switch s := int64(d.Round(time.Second) / time.Second); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", max(d, 0).Seconds())
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	default:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
}

// size prints a number of bytes for people.
func size(n uint64) string {
	const kib = 1024.0
	switch b := float64(n); {
	case b < kib:
		return fmt.Sprintf("%d B", n)
	case b < kib*kib:
		return fmt.Sprintf("%.1f KiB", b/kib)
	case b < kib*kib*kib:
		return fmt.Sprintf("%.1f MiB", b/kib/kib)
	default:
		return fmt.Sprintf("%.1f GiB", b/kib/kib/kib)
	}
}

// when prints a time in the local zone, or a dash.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}

// or prints text, or a dash where there is none.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// columnsOf prints rows about files as they come: the first column is as wide as the first batch's longest name.
type columnsOf struct {
	width   int
	started bool
}

// header prints the titles, once, where results are for people.
func (c *columnsOf) header(s *Session, files []string, titles ...string) {
	if c.started || s.json() {
		return
	}
	c.started = true
	for _, f := range files {
		c.width = max(c.width, utf8.RuneCountInString(f))
	}
	c.row(s, titles[0], titles[1:]...)
}

func (c *columnsOf) row(s *Session, file string, cells ...string) {
	line := fmt.Sprintf("%-*s", c.width, clean(file))
	for _, cell := range cells {
		line += fmt.Sprintf("  %-12s", clean(cell))
	}
	fmt.Fprintln(s.Out, strings.TrimRight(line, " "))
}
