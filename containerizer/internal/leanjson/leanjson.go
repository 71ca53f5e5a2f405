package leanjson

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Marshal returns v as json.Marshal does, but for a json.RawMessage, which is taken
// as it is: it has to be compact and valid.
//
// Memory that is not touched costs nothing: there is room from the start for what a
// launch records, which would be copied several times otherwise.
func Marshal(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 16<<10), reflect.ValueOf(v))
}

// rest leaves a value to encoding/json.
func rest(b []byte, v reflect.Value) ([]byte, error) {
	if v.CanAddr() { // its fields may have methods of their pointers
		v = v.Addr()
	}
	text, err := json.Marshal(v.Interface())
	return append(b, text...), err
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	if special, b, err := appendSpecial(b, v); special {
		return b, err
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendValue(b, v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return rest(b, v)
		}
		return appendList(b, v)
	case reflect.Array:
		return appendList(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Struct:
		return appendStruct(b, v)
	default:
		return rest(b, v)
	}
}

// appendSpecial appends a value whose type says how it is encoded.
func appendSpecial(b []byte, v reflect.Value) (special bool, _ []byte, err error) {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || v.Type().PkgPath() == "" {
		return false, b, nil // what it points to is looked at; types without a name have no methods
	}
	if !v.CanInterface() {
		return false, b, nil
	}
	switch x := v.Interface().(type) {
	case json.RawMessage:
		if x == nil {
			return true, append(b, "null"...), nil
		}
		return true, append(b, x...), nil
	case time.Time:
		text, err := x.MarshalJSON()
		return true, append(b, text...), err
	case json.Marshaler, encoding.TextMarshaler:
		b, err := rest(b, v)
		return true, b, err
	}
	if v.CanAddr() { // methods of the pointer
		switch v.Addr().Interface().(type) {
		case json.Marshaler, encoding.TextMarshaler:
			b, err := rest(b, v)
			return true, b, err
		}
	}
	return false, b, nil
}

// appendString appends s in quotes. Most strings need no escaping.
func appendString(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, err := json.Marshal(s)
			return append(b, text...), err
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	m, ok := reflect.TypeAssert[map[string]string](v)
	if !ok {
		return rest(b, v)
	}
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, k); err != nil {
			return b, err
		}
		b = append(b, ':')
		if b, err = appendString(b, m[k]); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value) (_ []byte, err error) {
	begin := len(b)
	b = append(b, '{')
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			return rest(b[:begin], v)
		}
		name, options, ok := tag(f)
		if !ok {
			continue
		}
		skip, known := skipped(v.Field(i), options)
		if !known {
			return rest(b[:begin], v)
		}
		if skip {
			continue
		}
		if len(b) > begin+1 {
			b = append(b, ',')
		}
		if b, err = appendString(b, name); err != nil {
			return b, err
		}
		if b, err = appendValue(append(b, ':'), v.Field(i)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// tag reads the tag of a field; not ok are fields that are never encoded.
func tag(f reflect.StructField) (name, options string, ok bool) {
	name, options, comma := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || name == "-" && !comma {
		return "", "", false
	}
	if name == "" {
		name = f.Name
	}
	return name, options, true
}

// skipped says whether a field is left out by the options of its tag, and whether
// they are known here.
func skipped(v reflect.Value, options string) (skip, known bool) {
	switch options {
	case "":
		return false, true
	case "omitempty":
		return empty(v), true
	case "omitzero":
		return zero(v), true
	}
	return false, false
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// zero is what omitzero leaves out.
func zero(v reflect.Value) bool {
	if z, ok := reflect.TypeAssert[interface{ IsZero() bool }](v); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		return z.IsZero()
	}
	return v.IsZero()
}
