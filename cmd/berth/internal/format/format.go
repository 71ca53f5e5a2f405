package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// labels is the key under which a row keeps labels for the method Label.
const labels = ""

// Row is one line of a list: values by field name, as templates use them.
type Row map[string]any

// SetLabels makes labels available to {{.Label "name"}}.
func (r Row) SetLabels(m map[string]string) { r[labels] = m }

// Label is for templates: the value of one label.
func (r Row) Label(name string) string {
	m, _ := r[labels].(map[string]string)
	return m[name]
}

// Field is a field of a list.
type Field struct {
	Name   string // in templates and JSON
	Header string // in tables
}

// Layout describes a list.
type Layout struct {
	// Fields are all fields, in the order of JSON.
	Fields []Field
	// Table names the fields of the default table.
	Table []string
	// ID is the field that Quiet prints.
	ID string
}

// Options are a user's choices.
type Options struct {
	// Format is "" or "table" for the default table, "table TEMPLATE", "json", or a
	// template.
	Format string
	// Quiet prints the ID alone; an explicit format wins.
	Quiet bool
}

// Print writes rows.
func (l *Layout) Print(w io.Writer, rows []Row, o Options) error {
	switch {
	case o.Format == "json" || o.Format == "{{json .}}":
		return l.printJSON(w, rows)
	case o.Format == "" && o.Quiet:
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, r[l.ID]); err != nil {
				return err
			}
		}
		return nil
	case o.Format == "" || strings.TrimSpace(o.Format) == "table":
		return l.printTable(w, rows)
	}
	if text, ok := strings.CutPrefix(o.Format, "table "); ok {
		return l.printTemplateTable(w, rows, text)
	}
	return l.printTemplate(w, rows, o.Format)
}

func (l *Layout) printJSON(w io.Writer, rows []Row) error {
	for _, r := range rows {
		var b bytes.Buffer
		for i, f := range l.Fields {
			sep := ","
			if i == 0 {
				sep = "{"
			}
			value, err := marshal(r[f.Name])
			if err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
			fmt.Fprintf(&b, "%s%q:%s", sep, f.Name, value)
		}
		b.WriteString("}\n")
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) printTable(w io.Writer, rows []Row) error {
	t := table{}
	head := make([]string, len(l.Table))
	for i, name := range l.Table {
		head[i] = l.header(name)
	}
	t.add(head)
	for _, r := range rows {
		line := make([]string, len(l.Table))
		for i, name := range l.Table {
			line[i] = fmt.Sprint(r[name])
		}
		t.add(line)
	}
	return t.write(w)
}

func (l *Layout) header(name string) string {
	for _, f := range l.Fields {
		if f.Name == name {
			return f.Header
		}
	}
	return ""
}

// printTemplate runs the template for each row.
func (l *Layout) printTemplate(w io.Writer, rows []Row, text string) error {
	lines, err := l.execute(rows, text)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// printTemplateTable is printTemplate with lines split at tabs, aligned, and
// headed.
func (l *Layout) printTemplateTable(w io.Writer, rows []Row, text string) error {
	head := Row{}
	for _, f := range l.Fields {
		head[f.Name] = f.Header
	}
	lines, err := l.execute(append([]Row{head}, rows...), text)
	if err != nil {
		return err
	}
	var t table
	for _, line := range lines {
		t.add(strings.Split(line, "\t"))
	}
	return t.write(w)
}

// execute runs the template for each row. It runs for a row of empty fields
// besides, so that a field that does not exist is an error without rows, too.
func (l *Layout) execute(rows []Row, text string) ([]string, error) {
	tmpl, err := parse(text)
	if err != nil {
		return nil, err
	}
	probe := Row{}
	for _, f := range l.Fields {
		probe[f.Name] = ""
	}
	if err := tmpl.Execute(io.Discard, probe); err != nil && strings.Contains(err.Error(), noEntry) {
		return nil, l.explain(err)
	}
	lines := make([]string, 0, len(rows))
	for _, r := range rows {
		var b strings.Builder
		if err := tmpl.Execute(&b, r); err != nil {
			return nil, l.explain(err)
		}
		lines = append(lines, b.String())
	}
	return lines, nil
}

// noEntry is in text/template's message for a key that does not exist.
const noEntry = "map has no entry for key "

// explain turns an unknown field into a sentence with the fields that exist.
func (l *Layout) explain(err error) error {
	_, key, found := strings.Cut(err.Error(), noEntry)
	if !found {
		return fmt.Errorf("--format: %w: %w", err, containerizer.ErrInvalid)
	}
	names := make([]string, len(l.Fields))
	for i, f := range l.Fields {
		names[i] = f.Name
	}
	return fmt.Errorf("--format: no field %s (there are %s): %w", key, strings.Join(names, ", "), containerizer.ErrInvalid)
}

// marshal is JSON without HTML escapes.
func marshal(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
