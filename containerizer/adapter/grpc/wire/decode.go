package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berth-dev/berth/containerizer"
)

// Decode sets the struct that v points to, which is zero, to what m says. A nil m
// leaves it. Errors: ErrInvalid for what the vocabulary cannot hold.
func Decode(v any, m proto.Message) error {
	return decodeStruct(reflect.ValueOf(v).Elem(), m.ProtoReflect())
}

func decodeStruct(v reflect.Value, m protoreflect.Message) error {
	fields, err := fieldsOf(v.Type(), m.Descriptor())
	if err != nil {
		return err
	}
	for _, f := range fields {
		if !m.Has(f.desc) {
			continue
		}
		if err := decodeField(v.FieldByIndex(f.index), f.desc, m.Get(f.desc)); err != nil {
			return fmt.Errorf("%s: %w", f.desc.Name(), err)
		}
	}
	return nil
}

func decodeField(v reflect.Value, d protoreflect.FieldDescriptor, p protoreflect.Value) error {
	switch {
	case d.IsMap():
		return decodeMap(v, d, p.Map())
	case d.IsList():
		return decodeList(v, d, p.List())
	}
	return decodeValue(v, d, p)
}

func decodeMap(v reflect.Value, d protoreflect.FieldDescriptor, p protoreflect.Map) (err error) {
	v.Set(reflect.MakeMapWithSize(v.Type(), p.Len()))
	p.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err = decodeScalar(k, d.MapKey(), key.Value()); err != nil {
			return false
		}
		if err = decodeValue(e, d.MapValue(), value); err != nil {
			return false
		}
		v.SetMapIndex(k, e)
		return true
	})
	return err
}

func decodeList(v reflect.Value, d protoreflect.FieldDescriptor, p protoreflect.List) error {
	v.Set(reflect.MakeSlice(v.Type(), p.Len(), p.Len()))
	for i := range p.Len() {
		if err := decodeValue(v.Index(i), d, p.Get(i)); err != nil {
			return err
		}
	}
	return nil
}

// decodeValue sets v to one value of field d.
func decodeValue(v reflect.Value, d protoreflect.FieldDescriptor, p protoreflect.Value) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		if d.Kind() == protoreflect.BytesKind { // a foreign document
			if err := json.Unmarshal(p.Bytes(), v.Interface()); err != nil {
				return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
			}
			return nil
		}
		v = v.Elem()
	}
	if d.Kind() != protoreflect.MessageKind {
		return decodeScalar(v, d, p)
	}
	switch x := p.Message().Interface().(type) {
	case *timestamppb.Timestamp:
		if err := x.CheckValid(); err != nil {
			return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
		}
		v.Set(reflect.ValueOf(x.AsTime()))
		return nil
	case *durationpb.Duration:
		if err := x.CheckValid(); err != nil {
			return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
		}
		v.Set(reflect.ValueOf(x.AsDuration()).Convert(reflect.TypeFor[time.Duration]()))
		return nil
	case *structpb.Struct:
		v.Set(reflect.ValueOf(x.AsMap()))
		return nil
	}
	if v.Kind() == reflect.Slice {
		list := listField(d.Message())
		return decodeList(v, list, p.Message().Get(list).List())
	}
	return decodeStruct(v, p.Message())
}

func decodeScalar(v reflect.Value, d protoreflect.FieldDescriptor, p protoreflect.Value) error {
	switch d.Kind() {
	case protoreflect.StringKind:
		v.SetString(p.String())
	case protoreflect.BytesKind:
		if v.Kind() == reflect.Slice {
			v.SetBytes(bytes.Clone(p.Bytes()))
			break
		}
		v.SetString(string(p.Bytes()))
	case protoreflect.BoolKind:
		v.SetBool(p.Bool())
	case protoreflect.EnumKind:
		value := d.Enum().Values().ByNumber(p.Enum())
		if value == nil {
			return fmt.Errorf("%s has no value %d; is the other side newer?: %w", d.Enum().Name(), p.Enum(), containerizer.ErrInvalid)
		}
		v.SetString(enumText(value))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if v.OverflowInt(p.Int()) {
			return fmt.Errorf("%d is out of range: %w", p.Int(), containerizer.ErrInvalid)
		}
		v.SetInt(p.Int())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		if v.OverflowUint(p.Uint()) {
			return fmt.Errorf("%d is out of range: %w", p.Uint(), containerizer.ErrInvalid)
		}
		v.SetUint(p.Uint())
	case protoreflect.DoubleKind:
		v.SetFloat(p.Float())
	default:
		return fmt.Errorf("fields of kind %s have no translation", d.Kind())
	}
	return nil
}
