package wire

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// field is one field of a Go type and its counterpart.
type field struct {
	index []int
	desc  protoreflect.FieldDescriptor
}

// pair is a Go type and a message that stand for the same.
type pair struct {
	typ  reflect.Type
	name protoreflect.FullName
}

// known are the fields of pairs that were looked up, map[pair][]field.
var known sync.Map //nolint:gochecknoglobals // a cache of what never changes

// fieldsOf returns the fields of struct type t with their counterparts in d. The
// error names what one of both lacks: it is a mistake in the .proto file.
func fieldsOf(t reflect.Type, d protoreflect.MessageDescriptor) ([]field, error) {
	key := pair{t, d.FullName()}
	if f, ok := known.Load(key); ok {
		return f.([]field), nil //nolint:forcetypeassert // nothing else is stored
	}
	byName := map[string]protoreflect.FieldDescriptor{}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		byName[plain(string(f.Name()))] = f
	}
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() || f.Type.Kind() == reflect.Func {
			continue
		}
		desc := byName[plain(nameOf(f))]
		if desc == nil {
			return nil, fmt.Errorf("message %s has no field for %s.%s", d.FullName(), t, f.Name)
		}
		delete(byName, plain(nameOf(f)))
		fields = append(fields, field{f.Index, desc})
	}
	for _, f := range byName {
		return nil, fmt.Errorf("type %s has no field for %s", t, f.FullName())
	}
	known.Store(key, fields)
	return fields, nil
}

// nameOf is what f is called in JSON, or in Go when JSON leaves it out.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" || name == "-" {
		return f.Name
	}
	return name
}

// plain is name without what the languages write differently.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", ".", "").Replace(name))
}

// listField is the only field of a message that stands for a list which may be not
// set; nil for other messages.
func listField(d protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if d.Fields().Len() != 1 || !d.Fields().Get(0).IsList() {
		return nil
	}
	return d.Fields().Get(0)
}

// enumName is how a value of vocabulary is called in enum d: its kind, and the value
// in capitals.
func enumName(d protoreflect.EnumDescriptor, value string) protoreflect.Name {
	prefix := strings.TrimSuffix(string(d.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return protoreflect.Name(prefix + strings.ToUpper(strings.ReplaceAll(value, "-", "_")))
}

// enumText is the word of the vocabulary for a value of an enum.
func enumText(d protoreflect.EnumValueDescriptor) string {
	if d.Number() == 0 {
		return ""
	}
	enum, _ := d.Parent().(protoreflect.EnumDescriptor)
	prefix := strings.TrimSuffix(string(enum.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(d.Name()), prefix), "_", "-"))
}
