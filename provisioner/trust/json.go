package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// object is a JSON object read strictly: encoding/json would take the last of two
// equal keys, and compare keys without regard to case.
type object struct {
	at     string // where it is in the document, "" at its top
	keys   []string
	values map[string]json.RawMessage
}

// invalid is an error about what stands at a place of a document.
func invalid(at, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if at != "" {
		text = at + ": " + text
	}
	return fmt.Errorf("%s: %w", text, containerizer.ErrInvalid)
}

// document reads the only value of a document, an object.
func document(raw []byte) (object, error) {
	if !json.Valid(raw) {
		var v any
		return object{}, invalid("", "it is not JSON: %v", json.Unmarshal(raw, &v))
	}
	return parseObject("", raw)
}

// parseObject reads raw, which is valid JSON.
func parseObject(at string, raw json.RawMessage) (object, error) {
	o := object{at: at, values: map[string]json.RawMessage{}}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return o, invalid(at, "it is not an object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return o, invalid(at, "%v", err)
		}
		key, ok := t.(string)
		if !ok {
			return o, invalid(at, "a key is not a string")
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return o, invalid(o.path(key), "%v", err)
		}
		if _, twice := o.values[key]; twice {
			return o, invalid(o.path(key), "the key is there twice")
		}
		o.keys, o.values[key] = append(o.keys, key), v
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return o, invalid(at, "%v", err)
	}
	return o, nil
}

// path is where the value of a key is.
func (o object) path(key string) string {
	plain := strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
	switch {
	case !plain || key == "":
		return fmt.Sprintf("%s[%q]", o.at, key)
	case o.at == "":
		return key
	}
	return o.at + "." + key
}

// only refuses keys that are none of these.
func (o object) only(keys ...string) error {
	for _, k := range o.keys {
		if !slices.Contains(keys, k) {
			return invalid(o.path(k), "there is no such key (%s are possible)", strings.Join(keys, ", "))
		}
	}
	return nil
}

func (o object) has(key string) bool { _, ok := o.values[key]; return ok }

// text returns a string that must be there.
func (o object) text(key string) (string, error) {
	if !o.has(key) {
		return "", invalid(o.path(key), "the key is missing")
	}
	return text(o.path(key), o.values[key])
}

// texts returns an array of strings that is not empty.
func (o object) texts(key string) ([]string, error) {
	all, err := array(o.path(key), o.values[key])
	if err != nil {
		return nil, err
	}
	var out []string
	for n, raw := range all {
		s, err := text(fmt.Sprintf("%s[%d]", o.path(key), n), raw)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// text reads a string that is not empty.
func text(at string, raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", invalid(at, "it is not a string")
	}
	if *s == "" {
		return "", invalid(at, "it is empty")
	}
	return *s, nil
}

// array reads an array that is not empty.
func array(at string, raw json.RawMessage) ([]json.RawMessage, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return nil, invalid(at, "it is not an array")
	}
	if len(all) == 0 {
		return nil, invalid(at, "it is empty")
	}
	return all, nil
}
