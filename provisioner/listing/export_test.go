package listing

import "encoding/binary"

// Seal makes a listing of content, whatever that is.
func Seal(content []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte(magic), checksum(content)), content...)
}
