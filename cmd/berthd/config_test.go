package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-dev/berth/cmd/internal/config"
)

// TestDefaults: the default configuration can be used, and has every key.
func TestDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(defaults), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{} // text by section
	section := ""
	for line := range strings.Lines(defaults) {
		if name, is := strings.CutPrefix(line, "["); is {
			section = strings.Trim(name, "]\n")
		}
		sections[section] += "\n" + strings.TrimPrefix(line, "#")
	}
	for key, text := range keys("", reflect.TypeFor[config.Config]()) {
		if !strings.Contains(sections[text], "\n"+key+" = ") {
			t.Errorf("[%s] has no key %s", text, key)
		}
	}
}

// keys are all keys with their sections.
func keys(section string, t reflect.Type) func(yield func(key, section string) bool) {
	return func(yield func(string, string) bool) {
		for f := range t.Fields() {
			key := f.Tag.Get("toml")
			if key == "-" {
				continue
			}
			if f.Type.Kind() != reflect.Struct {
				if !yield(key, section) {
					return
				}
				continue
			}
			for k, s := range keys(key, f.Type) {
				if !yield(k, s) {
					return
				}
			}
		}
	}
}
