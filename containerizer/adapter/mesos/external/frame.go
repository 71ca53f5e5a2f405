package external

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
)

// maxFrame bounds what an agent sends: a task with all that belongs to it.
const maxFrame = 16 << 20

// headerSize is that of the length in front of a message.
const headerSize = 4

// readFrame reads one message, and not a byte more: an agent need not close its end.
// Errors: ErrInvalid, ErrResourceExhausted.
func readFrame(in io.Reader, m proto.Message) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return fmt.Errorf("read the length of a message: %w", short(err))
	}
	size := binary.NativeEndian.Uint32(header[:]) // as agents write it
	if size > maxFrame {
		return fmt.Errorf("a message has %d bytes, at most %d are possible: %w", size, maxFrame, containerizer.ErrResourceExhausted)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(in, message); err != nil {
		return fmt.Errorf("read a message of %d bytes: %w", size, short(err))
	}
	if err := proto.Unmarshal(message, m); err != nil {
		return fmt.Errorf("no %s: %w: %w", m.ProtoReflect().Descriptor().FullName(), err, containerizer.ErrInvalid)
	}
	return nil
}

// short is the error of input that ends too early.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, containerizer.ErrInvalid)
	}
	return err
}

// writeFrame writes one message.
func writeFrame(out io.Writer, m proto.Message) error {
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	frame := binary.NativeEndian.AppendUint32(nil, uint32(len(message))) //nolint:gosec // we made it
	if _, err := out.Write(append(frame, message...)); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
