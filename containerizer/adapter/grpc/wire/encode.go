package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berth-dev/berth/containerizer"
)

// Encode sets m to what v, a pointer to a struct of the vocabulary, says. Errors:
// ErrInvalid for text that is not UTF-8, or a word that the API does not have.
func Encode(m proto.Message, v any) error {
	return encodeStruct(m.ProtoReflect(), reflect.ValueOf(v).Elem())
}

func encodeStruct(m protoreflect.Message, v reflect.Value) error {
	fields, err := fieldsOf(v.Type(), m.Descriptor())
	if err != nil {
		return err
	}
	for _, f := range fields {
		fv := v.FieldByIndex(f.index)
		if fv.IsZero() {
			continue
		}
		if err := encodeField(m, f.desc, fv); err != nil {
			return fmt.Errorf("%s: %w", f.desc.Name(), err)
		}
	}
	return nil
}

func encodeField(m protoreflect.Message, d protoreflect.FieldDescriptor, v reflect.Value) error {
	switch {
	case d.IsMap():
		target := m.Mutable(d).Map()
		for it := v.MapRange(); it.Next(); {
			key, err := encodeScalar(d.MapKey(), it.Key())
			if err != nil {
				return err
			}
			value, err := encodeValue(d.MapValue(), it.Value(), target.NewValue)
			if err != nil {
				return err
			}
			target.Set(key.MapKey(), value)
		}
		return nil
	case d.IsList():
		target := m.Mutable(d).List()
		for i := range v.Len() {
			value, err := encodeValue(d, v.Index(i), target.NewElement)
			if err != nil {
				return err
			}
			target.Append(value)
		}
		return nil
	}
	value, err := encodeValue(d, v, func() protoreflect.Value { return m.NewField(d) })
	if err == nil {
		m.Set(d, value)
	}
	return err
}

// encodeValue returns one value of field d. empty makes a message of its type.
func encodeValue(d protoreflect.FieldDescriptor, v reflect.Value, empty func() protoreflect.Value) (protoreflect.Value, error) {
	if d.Kind() == protoreflect.BytesKind && v.Kind() == reflect.Pointer { // a foreign document
		b, err := json.Marshal(v.Interface())
		return protoreflect.ValueOfBytes(b), err
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if d.Kind() != protoreflect.MessageKind {
		return encodeScalar(d, v)
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return protoreflect.ValueOfMessage(timestamppb.New(x).ProtoReflect()), nil
	case time.Duration:
		return protoreflect.ValueOfMessage(durationpb.New(x).ProtoReflect()), nil
	case map[string]any:
		s, err := structpb.NewStruct(x)
		if err != nil {
			return protoreflect.Value{}, fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
		}
		return protoreflect.ValueOfMessage(s.ProtoReflect()), nil
	}
	m := empty()
	if v.Kind() == reflect.Slice {
		return m, encodeField(m.Message(), listField(d.Message()), v)
	}
	return m, encodeStruct(m.Message(), v)
}

func encodeScalar(d protoreflect.FieldDescriptor, v reflect.Value) (protoreflect.Value, error) {
	switch d.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(v.String()) {
			return protoreflect.Value{}, fmt.Errorf("%.200q is not UTF-8: %w", v.String(), containerizer.ErrInvalid)
		}
		return protoreflect.ValueOfString(v.String()), nil
	case protoreflect.BytesKind:
		if v.Kind() == reflect.Slice {
			return protoreflect.ValueOfBytes(v.Bytes()), nil
		}
		return protoreflect.ValueOfBytes([]byte(v.String())), nil
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(v.Bool()), nil
	case protoreflect.EnumKind:
		value := d.Enum().Values().ByName(enumName(d.Enum(), v.String()))
		if v.String() == "" {
			value = d.Enum().Values().ByNumber(0)
		}
		if value == nil {
			return protoreflect.Value{}, fmt.Errorf("%.200q is not known: %w", v.String(), containerizer.ErrInvalid)
		}
		return protoreflect.ValueOfEnum(value.Number()), nil
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(v.Int())), nil //nolint:gosec // the Go type has 32 bits as well
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(v.Int()), nil
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(v.Uint())), nil //nolint:gosec // the Go type has at most 32 bits
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(v.Uint()), nil
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(v.Float()), nil
	default:
		return protoreflect.Value{}, fmt.Errorf("fields of kind %s have no translation", d.Kind())
	}
}
