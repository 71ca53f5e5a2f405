package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/berth-dev/berth/containerizer"
)

// parse parses a template of Docker's dialect: "\t" and "\n" may be written out.
func parse(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("format").Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format: %w: %w", err, containerizer.ErrInvalid)
	}
	return t, nil
}

// functions are those that Docker gives its templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  marshal,
		"split": strings.Split,
		"join":  strings.Join,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": func(s string) string {
			r, n := utf8.DecodeRuneInString(s)
			return strings.ToUpper(string(r)) + s[min(n, len(s)):]
		},
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
		},
		"truncate": func(s string, length int) string {
			if r := []rune(s); length >= 0 && len(r) > length {
				return string(r[:length])
			}
			return s
		},
		"println": func(args ...any) string { return fmt.Sprintln(args...) },
	}
}

// Objects prints values, each through the template, or all of them as one
// indented JSON list when there is none ("" or "json").
func Objects[T any](w io.Writer, values []T, text string) error {
	if text == "" || text == "json" {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if text == "" {
			enc.SetIndent("", "    ")
		}
		if values == nil {
			values = []T{}
		}
		if err := enc.Encode(values); err != nil {
			return err
		}
		_, err := w.Write(b.Bytes())
		return err
	}
	tmpl, err := parse(text)
	if err != nil {
		return err
	}
	for _, v := range values {
		var b strings.Builder
		if err := tmpl.Execute(&b, v); err != nil {
			return fmt.Errorf("--format: %w: %w", cause(err), containerizer.ErrInvalid)
		}
		if _, err := fmt.Fprintln(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// cause shortens a template's error to what is wrong.
func cause(err error) error {
	if _, what, ok := strings.Cut(err.Error(), "can't evaluate field "); ok {
		field, _, _ := strings.Cut(what, " ")
		return fmt.Errorf("no field %q", field)
	}
	if _, key, ok := strings.Cut(err.Error(), noEntry); ok {
		return fmt.Errorf("no key %s", key)
	}
	return err
}
