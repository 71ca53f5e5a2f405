package codec

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berth-dev/berth/containerizer"
)

// Form is one in which messages are sent.
type Form int

// The forms.
const (
	JSON Form = iota
	Protobuf
)

// Media types, as they stand in headers.
const (
	MediaJSON     = "application/json"
	MediaProtobuf = "application/x-protobuf"
	MediaRecordIO = "application/recordio"
)

// MediaType is how a header names f.
func (f Form) MediaType() string {
	if f == Protobuf {
		return MediaProtobuf
	}
	return MediaJSON
}

// Marshal returns m in form f.
func (f Form) Marshal(m proto.Message) ([]byte, error) {
	if err := proto.CheckInitialized(m); err != nil {
		return nil, fmt.Errorf("encode a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if f == Protobuf {
		return proto.Marshal(m)
	}
	return appendMessage(nil, m.ProtoReflect()), nil
}

// Unmarshal reads data, which must have all that is required, into m, which is empty.
// Errors: ErrInvalid.
func (f Form) Unmarshal(data []byte, m proto.Message) error {
	var err error
	if f == Protobuf {
		if err = proto.Unmarshal(data, m); err == nil {
			dropStrangers(m.ProtoReflect())
			err = proto.CheckInitialized(m)
		}
	} else if err = unmarshalJSON(data, m.ProtoReflect()); err == nil {
		err = proto.CheckInitialized(m)
	}
	if err != nil {
		return fmt.Errorf("no %s in %s: %w: %w", m.ProtoReflect().Descriptor().FullName(), f.MediaType(), err, containerizer.ErrInvalid)
	}
	return nil
}

// dropStrangers clears enumerations that have a value that nobody knows, as other
// implementations do when they read: in proto2 it is none.
func dropStrangers(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					dropStrangers(v.Message())
					return true
				})
			}
		case f.IsList():
			dropFromList(f, v.List())
		case f.Message() != nil:
			dropStrangers(v.Message())
		case f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil:
			m.Clear(f)
		}
		return true
	})
}

func dropFromList(f protoreflect.FieldDescriptor, list protoreflect.List) {
	kept := 0
	for i := range list.Len() {
		v := list.Get(i)
		if f.Message() != nil {
			dropStrangers(v.Message())
		}
		if f.Enum() != nil && f.Enum().Values().ByNumber(v.Enum()) == nil {
			continue
		}
		list.Set(kept, v)
		kept++
	}
	list.Truncate(kept)
}
