package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth of objects in objects. A container id may be nested 32 deep.
const maxDepth = 100

func unmarshalJSON(data []byte, m protoreflect.Message) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return setMessage(m, v, maxDepth)
}

// setMessage sets the fields of m that are in v.
func setMessage(m protoreflect.Message, v any, depth int) error {
	object, is := v.(map[string]any)
	if !is {
		return fmt.Errorf("%s where an object is expected", kind(v))
	}
	if depth == 0 {
		return fmt.Errorf("objects are nested more than %d deep", maxDepth)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		value, is := object[string(f.Name())]
		if !is || value == nil {
			continue
		}
		if err := setField(m, f, value, depth); err != nil {
			return fmt.Errorf("field %q: %w", f.Name(), err)
		}
	}
	return nil
}

func setField(m protoreflect.Message, f protoreflect.FieldDescriptor, v any, depth int) error {
	switch {
	case f.IsMap():
		return setMap(m.Mutable(f).Map(), f, v, depth)
	case f.IsList():
		list, is := v.([]any)
		if !is {
			list = []any{v} // one value stands for a list of it
		}
		return setList(m.Mutable(f).List(), f, list, depth)
	case f.Message() != nil:
		return setMessage(m.Mutable(f).Message(), v, depth-1)
	}
	value, err := scalar(f, v)
	if errors.Is(err, errUnknownEnum) && f.Cardinality() != protoreflect.Required {
		return nil
	}
	if err == nil {
		m.Set(f, value)
	}
	return err
}

func setList(list protoreflect.List, f protoreflect.FieldDescriptor, values []any, depth int) error {
	for i, v := range values {
		if f.Message() != nil {
			if err := setMessage(list.AppendMutable().Message(), v, depth-1); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			continue
		}
		value, err := scalar(f, v)
		if errors.Is(err, errUnknownEnum) {
			continue
		}
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		list.Append(value)
	}
	return nil
}

func setMap(m protoreflect.Map, f protoreflect.FieldDescriptor, v any, depth int) error {
	object, is := v.(map[string]any)
	if !is {
		return fmt.Errorf("%s where an object is expected", kind(v))
	}
	for k, v := range object {
		key := protoreflect.ValueOfString(k).MapKey()
		if f.MapValue().Message() != nil {
			if err := setMessage(m.Mutable(key).Message(), v, depth-1); err != nil {
				return fmt.Errorf("key %q: %w", k, err)
			}
			continue
		}
		value, err := scalar(f.MapValue(), v)
		if err != nil {
			return fmt.Errorf("key %q: %w", k, err)
		}
		m.Set(key, value)
	}
	return nil
}

var errUnknownEnum = errors.New("no value of this enumeration")

// scalar is the value v of f, or of one of its elements.
func scalar(f protoreflect.FieldDescriptor, v any) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.EnumKind:
		name, is := v.(string)
		if !is {
			return protoreflect.Value{}, fmt.Errorf("%s where the name of an enumeration's value is expected", kind(v))
		}
		d := f.Enum().Values().ByName(protoreflect.Name(name))
		if d == nil {
			return protoreflect.Value{}, fmt.Errorf("%.100q: %w", name, errUnknownEnum)
		}
		return protoreflect.ValueOfEnum(d.Number()), nil
	case protoreflect.StringKind, protoreflect.BytesKind:
		return text(f.Kind(), v)
	case protoreflect.BoolKind:
		if b, is := v.(bool); is {
			return protoreflect.ValueOfBool(b), nil
		}
		if v == "true" || v == "false" {
			return protoreflect.ValueOfBool(v == "true"), nil
		}
		return protoreflect.Value{}, fmt.Errorf("%s where true or false is expected", kind(v))
	default:
		return number(f.Kind(), v)
	}
}

func text(k protoreflect.Kind, v any) (protoreflect.Value, error) {
	s, is := v.(string)
	if !is {
		return protoreflect.Value{}, fmt.Errorf("%s where a string is expected", kind(v))
	}
	if k == protoreflect.StringKind {
		return protoreflect.ValueOfString(s), nil
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return protoreflect.Value{}, fmt.Errorf("bytes are not in base64: %w", err)
	}
	return protoreflect.ValueOfBytes(data), nil
}

func number(k protoreflect.Kind, v any) (protoreflect.Value, error) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	default:
		return protoreflect.Value{}, fmt.Errorf("%s where a number is expected", kind(v))
	}
	var (
		value protoreflect.Value
		err   error
	)
	switch k {
	case protoreflect.DoubleKind:
		var d float64
		d, err = double(s)
		value = protoreflect.ValueOfFloat64(d)
	case protoreflect.Int32Kind:
		var i int64
		i, err = strconv.ParseInt(integral(s), 10, 32)
		value = protoreflect.ValueOfInt32(int32(i)) //nolint:gosec // was checked
	case protoreflect.Int64Kind:
		var i int64
		i, err = strconv.ParseInt(integral(s), 10, 64)
		value = protoreflect.ValueOfInt64(i)
	case protoreflect.Uint32Kind:
		var u uint64
		u, err = strconv.ParseUint(integral(s), 10, 32)
		value = protoreflect.ValueOfUint32(uint32(u)) //nolint:gosec // was checked
	case protoreflect.Uint64Kind:
		var u uint64
		u, err = strconv.ParseUint(integral(s), 10, 64)
		value = protoreflect.ValueOfUint64(u)
	default:
		err = fmt.Errorf("values of kind %s are in no message of Mesos", k)
	}
	if err != nil {
		return protoreflect.Value{}, fmt.Errorf("%.100q is no %s", s, k)
	}
	return value, nil
}

// integral is s without a fraction of nothing: 1.0 and 1e3 are integers, too.
func integral(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	if d, err := strconv.ParseFloat(s, 64); err == nil && d == math.Trunc(d) && math.Abs(d) < 1<<53 {
		return strconv.FormatFloat(d, 'f', 0, 64)
	}
	return s
}

func double(s string) (float64, error) {
	d, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "xX_") {
		return 0, errors.New("no double")
	}
	return d, nil
}

// kind names the type of v for people.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	}
	return "true or false"
}
