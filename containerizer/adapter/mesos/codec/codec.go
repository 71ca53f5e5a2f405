package codec

import (
	"fmt"

	"google.golang.org/protobuf/proto"

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
		err = proto.Unmarshal(data, m)
	} else if err = unmarshalJSON(data, m.ProtoReflect()); err == nil {
		err = proto.CheckInitialized(m)
	}
	if err != nil {
		return fmt.Errorf("no %s in %s: %w: %w", m.ProtoReflect().Descriptor().FullName(), f.MediaType(), err, containerizer.ErrInvalid)
	}
	return nil
}
