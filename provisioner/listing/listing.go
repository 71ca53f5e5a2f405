package listing

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// magic begins a listing; another form has another one.
const magic = "berth listing 1\n"

// Encode writes images, without their configurations, under a stamp.
func Encode(stamp string, images []containerizer.Image) []byte {
	w := writer{append(make([]byte, 0, 256+600*len(images)), magic+"\x00\x00\x00\x00"...)}
	w.string(stamp)
	w.number(uint64(len(images)))
	for i := range images {
		w.image(&images[i])
	}
	binary.LittleEndian.PutUint32(w.b[len(magic):], checksum(w.b[len(magic)+4:]))
	return w.b
}

// Decode reads what Encode wrote under that stamp; false if it is anything else. It
// takes b over: the strings of the images are parts of it.
func Decode(b []byte, stamp string) ([]containerizer.Image, bool) {
	const head = len(magic) + 4
	if len(b) <= head || string(b[:len(magic)]) != magic {
		return nil, false
	}
	content := b[head:]
	if binary.LittleEndian.Uint32(b[len(magic):head]) != checksum(content) {
		return nil, false
	}
	r := reader{rest: unsafe.String(&content[0], len(content)), ok: true}
	if r.string() != stamp || !r.ok {
		return nil, false
	}
	images := make([]containerizer.Image, r.count())
	for i := range images {
		r.image(&images[i])
	}
	return images, r.ok && r.rest == ""
}

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

type writer struct{ b []byte }

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) signed(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *writer) string(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) flag(is bool) { //nolint:revive // a value, not a switch
	n := uint64(0)
	if is {
		n = 1
	}
	w.number(n)
}

func stringsTo[S ~string](w *writer, all []S) {
	w.number(uint64(len(all)))
	for _, s := range all {
		w.string(string(s))
	}
}

func (w *writer) image(i *containerizer.Image) {
	stringsTo(w, i.References)
	stringsTo(w, []digest.Digest{i.Manifest, i.Index, i.Config})
	stringsTo(w, []string{i.Platform.Architecture, i.Platform.OS, i.Platform.OSVersion, i.Platform.Variant})
	stringsTo(w, i.Platform.OSFeatures)
	w.flag(!i.Created.IsZero())
	w.signed(i.Created.Unix())
	w.number(uint64(i.Created.Nanosecond()))
	stringsTo(w, i.Layers)
	w.number(uint64(len(i.Labels)))
	for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
		w.string(k)
		w.string(i.Labels[k])
	}
	w.signed(i.SizeBytes)
	w.signed(i.SharedBytes)
	w.flag(i.Pinned)
}

// reader reads until something is wrong; then it gives zeros.
type reader struct {
	rest string
	ok   bool
}

func (r *reader) number() (n uint64) {
	for shift := 0; shift < 64; shift += 7 {
		if r.rest == "" {
			break
		}
		c := r.rest[0]
		r.rest = r.rest[1:]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	r.fail()
	return 0
}

func (r *reader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

// count is a number of things that take at least a byte each.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	n := r.count()
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) flag() bool { return r.number() == 1 }

func (r *reader) fail() { r.ok, r.rest = false, "" }

func stringsFrom[S ~string](r *reader) []S {
	n := r.count()
	if n == 0 {
		return nil
	}
	all := make([]S, n)
	for i := range all {
		all[i] = S(r.string())
	}
	return all
}

// some reads as many strings as there are places.
func some[S ~string](r *reader, to ...*S) {
	if r.count() != len(to) {
		r.fail()
	}
	for _, s := range to {
		*s = S(r.string())
	}
}

func (r *reader) image(i *containerizer.Image) {
	i.References = stringsFrom[string](r)
	some(r, &i.Manifest, &i.Index, &i.Config)
	some(r, &i.Platform.Architecture, &i.Platform.OS, &i.Platform.OSVersion, &i.Platform.Variant)
	i.Platform.OSFeatures = stringsFrom[string](r)
	created, sec, nsec := r.flag(), r.signed(), r.number()
	if created {
		i.Created = time.Unix(sec, int64(nsec)).UTC()
	}
	i.Layers = stringsFrom[digest.Digest](r)
	if n := r.count(); n > 0 {
		i.Labels = make(map[string]string, min(n, 1000))
		for range n {
			k := r.string()
			i.Labels[k] = r.string()
			if !r.ok {
				break
			}
		}
	}
	i.SizeBytes, i.SharedBytes = r.signed(), r.signed()
	i.Pinned = r.flag()
}
